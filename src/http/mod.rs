//! The HTTP face: the path is the lock, the method is the verb.

mod acquiring;
mod audit;
mod auth;
mod body;
mod correlation;
mod docs;
mod given;
mod grant_body;
mod hold;
mod leasing;
mod list;
mod locks;
mod nodes;
mod observe;
mod options;
mod path;
mod probes;
mod problem;
mod semaphores;
mod sets;
mod state;
mod watch;

use axum::Router;
use axum::routing::{MethodRouter, get};
use observe::ObserveLayer;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub use docs::openapi;
pub use hold::Wire;
pub use nodes::{FindingBody, NodeBody};
pub use probes::is_watching;
pub use problem::too_many_connections;
pub use state::{AppState, Draining, HttpSettings, RunsOn, Seldom, Shared};

/// Every route of the service, on one screen.
pub fn router(state: AppState) -> Router {
    let (router, openapi) = documented();
    router
        .merge(docs::router(openapi))
        .route("/locks/", nameless())
        .route("/semaphores/", nameless())
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(ServiceBuilder::new().layer(ObserveLayer::new(&state)).layer(CatchPanicLayer::custom(problem::panicked)))
        .with_state(state)
}

/// What a scraper and a kubelet ask, at an address of their own, where no token is wanted and nobody is too fast.
pub fn operations_router(state: AppState) -> Router {
    Router::new()
        .route("/livez", get(probes::livez))
        .route("/readyz", get(probes::readyz))
        .route("/metrics", get(probes::open_metrics))
        .fallback(problem::no_such_operation)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .layer(ServiceBuilder::new().layer(ObserveLayer::new(&state)).layer(CatchPanicLayer::custom(problem::panicked)))
        .with_state(state)
}

/// A path that ends where a name should begin.
fn nameless() -> MethodRouter<AppState> {
    get(path::empty_key).post(path::empty_key).put(path::empty_key).delete(path::empty_key)
}

fn documented() -> (Router<AppState>, utoipa::openapi::OpenApi) {
    OpenApiRouter::with_openapi(docs::base())
        .routes(routes!(locks::acquire, locks::extend, locks::release, locks::inspect))
        .routes(routes!(sets::acquire, sets::extend, sets::release, list::list))
        .routes(routes!(semaphores::acquire, semaphores::extend, semaphores::release, semaphores::inspect))
        .routes(routes!(nodes::nodes))
        .routes(routes!(probes::livez))
        .routes(routes!(probes::readyz))
        .routes(routes!(probes::metrics))
        .split_for_parts()
}
