"""All routes in one table, and the application that serves them."""

from collections.abc import Callable

from aiohttp import web

from carrel.http import (
    browser,
    chat,
    connect,
    control_backups,
    control_billing,
    control_git,
    control_house,
    control_quotas,
    control_sandboxes,
    control_secrets,
    control_snapshots,
    control_tenants,
    health,
    hooks,
    kept_completions,
    mcp,
    models,
    openapi,
    pairing,
    responses,
    responses_compact,
    rpc_endpoint,
    site,
    tenant_chat,
    vendor_endpoints,
    ws,
    ws_frames,
)
from carrel.http.routes import Route, add_routes
from carrel.http.services import Services

Readiness = Callable[[], str | None]


def all_routes(readiness: Readiness) -> tuple[Route, ...]:
    """Every route of the gateway; ``readiness`` says why it is not ready, None where it is."""
    sockets = ws.Sockets()
    routes = (
        *health.routes(readiness),
        *chat.ROUTES,
        *kept_completions.ROUTES,
        *vendor_endpoints.ROUTES,
        *responses.ROUTES,
        *responses_compact.ROUTES,
        *models.ROUTES,
        *rpc_endpoint.ROUTES,
        *pairing.ROUTES,
        *ws.routes(sockets),
        *ws_frames.routes(sockets),
        *hooks.ROUTES,
        *browser.ROUTES,
        *connect.ROUTES,
        *mcp.ROUTES,
        *site.routes(),
        *control_tenants.ROUTES,
        *control_billing.ROUTES,
        *control_quotas.ROUTES,
        *tenant_chat.ROUTES,
        *control_git.ROUTES,
        *control_house.ROUTES,
        *control_sandboxes.ROUTES,
        *control_secrets.ROUTES,
        *control_snapshots.ROUTES,
        *control_backups.ROUTES,
    )
    return (*routes, openapi.route(routes))


def make_app(services: Services, readiness: Readiness) -> web.Application:
    """The application with every route in it."""
    app = web.Application()
    add_routes(app, all_routes(readiness))
    return app
