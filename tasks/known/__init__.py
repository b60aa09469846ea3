"""Tasks the field measures itself by, each a short class; `docs/known-tasks.md` lists them."""
