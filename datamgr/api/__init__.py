"""The web application: one FastAPI app over the features' routers and the pages."""
