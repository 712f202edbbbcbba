//! A platform in a few lines: as much of it as users ask for.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use base::entry_point::EntryPoint;
use base::wait::{Observation, until};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prober::IdentityHeaders;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// What investors log in with.
pub const PASSWORD: &str = "open sesame";

const TIMEOUT: Duration = Duration::from_secs(20);
const SYMBOL: &str = "ECOPETROL";

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// It says what is not so, each service in its own way.
    Wrong,
    /// It says nothing.
    Silent,
}

struct World {
    fault: Fault,
    requests: AtomicU64,
    stopped: AtomicBool,
    /// Shares by investor.
    held: Mutex<HashMap<String, u64>>,
}

/// It serves until it is stopped or dropped.
pub struct Platform {
    entry: EntryPoint,
    world: Arc<World>,
    stop: CancellationToken,
    serving: AbortOnDropHandle<()>,
}

impl Platform {
    pub async fn start(fault: Fault) -> Platform {
        let world = Arc::new(World {
            fault,
            requests: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            held: Mutex::default(),
        });
        let routes = routes(&world);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let entry = EntryPoint::plain(listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let serving = tokio::spawn(async move {
            tokio::select! {
                served = axum::serve(listener, routes).into_future() => served.unwrap(),
                () = stopped.cancelled() => {}
            }
        });
        Platform {
            entry,
            world,
            stop,
            serving: AbortOnDropHandle::new(serving),
        }
    }

    pub fn entry(&self) -> &EntryPoint {
        &self.entry
    }

    /// How many requests came.
    pub fn requests(&self) -> u64 {
        self.world.requests.load(Ordering::Relaxed)
    }

    /// Waits for this many requests.
    pub async fn wait_for_requests(&self, times: u64) {
        let poll = async || match self.requests() {
            requests if requests >= times => Observation::Ready(()),
            fewer => Observation::NotYet(format!("{fewer} requests")),
        };
        let what = format!("{times} requests came");
        let requests = until(what, TIMEOUT, Duration::from_millis(10), poll);
        requests.await.unwrap();
    }

    /// Nobody listens any more; kept connections are closed with the next request.
    pub async fn stop(self) {
        self.world.stopped.store(true, Ordering::Relaxed);
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

fn routes(world: &Arc<World>) -> Router {
    let quote = "/api/market-data/quotes/{symbol}";
    Router::new()
        .route("/api/login", post(login))
        .route(
            "/api/market-data/quotes",
            get(|| async { Json(json!([a_quote(SYMBOL, 0)])) }),
        )
        .route(quote, get(one_quote))
        .route(&format!("{quote}/history"), get(history))
        .route("/api/portfolio-manager/portfolios", post(open))
        .route("/api/portfolio-manager/portfolios/me", get(portfolio))
        .route("/api/portfolio-manager/orders", post(order))
        .route(
            "/api/analysis-engine/analysis/symbols/{symbol}",
            get(analysis),
        )
        .route("/api/analysis-engine/analysis/portfolio", get(valuation))
        .route("/api/ml-prediction/predictions", post(predict))
        .layer(middleware::from_fn_with_state(Arc::clone(world), signed))
        .with_state(Arc::clone(world))
}

/// The headers with which it names itself.
pub fn headers() -> IdentityHeaders {
    IdentityHeaders {
        service: Some(HeaderName::from_static("x-stand-in-service")),
        version: Some(HeaderName::from_static("x-stand-in-version")),
        instance: None,
    }
}

async fn signed(State(world): State<Arc<World>>, request: Request, next: Next) -> Response {
    world.requests.fetch_add(1, Ordering::Relaxed);
    if world.fault == Fault::Silent {
        std::future::pending::<()>().await;
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("x-stand-in-service", "stand-in".parse().unwrap());
    headers.insert("x-stand-in-version", "v1".parse().unwrap());
    if world.stopped.load(Ordering::Relaxed) {
        headers.insert("connection", "close".parse().unwrap());
    }
    response
}

impl World {
    fn is_wrong(&self) -> bool {
        self.fault == Fault::Wrong
    }
}

fn a_quote(symbol: &str, minute: u32) -> Value {
    json!({"symbol": symbol, "price": "1850.00", "at": format!("2026-01-05T14:{minute:02}:00Z")})
}

/// Whom the token is of. Nobody checks who signed it.
fn investor(headers: &HeaderMap) -> String {
    let token = headers["authorization"].to_str().unwrap();
    let claims = token.split('.').nth(1).unwrap();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    claims["sub"].as_str().unwrap().to_owned()
}

async fn login(Json(credentials): Json<Value>) -> Result<Json<Value>, StatusCode> {
    let claims = json!({"sub": credentials["investor"]}).to_string();
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
    match credentials["password"] == PASSWORD {
        true => Ok(Json(
            json!({"token": format!("e30.{claims}.c2lnbmVk"), "expires_in": 3600}),
        )),
        false => Err(StatusCode::UNAUTHORIZED),
    }
}

async fn one_quote(State(world): State<Arc<World>>, Path(symbol): Path<String>) -> Json<Value> {
    let mut quote = a_quote(&symbol, 0);
    if world.is_wrong() {
        quote["price"] = json!("NaN");
    }
    Json(quote)
}

async fn history(State(world): State<Arc<World>>, Path(symbol): Path<String>) -> Json<Value> {
    let symbol = if world.is_wrong() { "GEB" } else { &symbol };
    Json(json!([a_quote(symbol, 0), a_quote(symbol, 1)]))
}

async fn open(headers: HeaderMap) -> (StatusCode, Json<Value>) {
    (
        StatusCode::CREATED,
        Json(json!({"investor": investor(&headers)})),
    )
}

async fn portfolio(State(world): State<Arc<World>>, headers: HeaderMap) -> Json<Value> {
    let investor = investor(&headers);
    let held = world.held.lock().unwrap().get(&investor).copied();
    let positions = held.filter(|held| *held > 0);
    let positions = positions.map(|held| json!({"symbol": SYMBOL, "quantity": held}));
    let positions: Vec<Value> = positions.into_iter().collect();
    Json(json!({"investor": investor, "cash": "100.00", "positions": positions}))
}

async fn order(
    State(world): State<Arc<World>>,
    headers: HeaderMap,
    Json(mut order): Json<Value>,
) -> (StatusCode, Json<Value>) {
    if !world.is_wrong() {
        let mut held = world.held.lock().unwrap();
        let held = held.entry(investor(&headers)).or_default();
        match order["side"] == "buy" {
            true => *held += 1,
            false => *held -= 1,
        }
    }
    for (field, value) in [("price", "1850.00"), ("amount", "1850.00"), ("cash", "0")] {
        order[field] = json!(value);
    }
    (StatusCode::CREATED, Json(order))
}

async fn analysis(Path(symbol): Path<String>) -> Json<Value> {
    let returns = [0.1, -0.1];
    Json(json!({
        "symbol": symbol, "observations": 3, "returns": returns, "max_drawdown": 0.1,
    }))
}

async fn valuation(State(world): State<Arc<World>>) -> Json<Value> {
    let value = if world.is_wrong() { "30.01" } else { "30.00" };
    let positions = json!([{"market_value": "20.00"}]);
    Json(json!({"cash": "10.00", "value": value, "positions": positions}))
}

async fn predict(
    State(world): State<Arc<World>>,
    Json(body): Json<Value>,
) -> Result<Json<Value>, StatusCode> {
    match world.is_wrong() {
        true => Err(StatusCode::SERVICE_UNAVAILABLE),
        false => Ok(Json(json!({
            "symbol": body["symbol"], "observations": body["observations"], "prediction": 1.5,
        }))),
    }
}
