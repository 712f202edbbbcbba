//! Sends a request of a Hurl file.

use std::time::Instant;

use hurl_checks::Response;
use hyper::Request;
use hyper::body::Bytes;

/// Sends a request as it is, and waits for the whole answer.
///
/// # Errors
/// There is no whole answer.
pub async fn exchange(
    http: &reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response, reqwest::Error> {
    let url = request.uri().to_string();
    let began = Instant::now();
    let response = http.execute(request.try_into()?).await?;
    Ok(Response {
        url,
        version: response.version(),
        status: response.status(),
        headers: response.headers().clone(),
        body: response.bytes().await?,
        duration: began.elapsed(),
    })
}
