"""The fleet server: REST, device protocol, dashboard. The only package that knows the web stack."""
