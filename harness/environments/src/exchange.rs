//! Exchanges the requests of Hurl files for their answers.

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
    let sent = Instant::now();
    let answer = http.execute(request.try_into()?).await?;
    whole(answer, sent).await
}

/// Waits for the rest of an answer to a request that was sent at `sent`.
///
/// # Errors
/// There is no whole answer.
pub async fn whole(answer: reqwest::Response, sent: Instant) -> Result<Response, reqwest::Error> {
    Ok(Response {
        url: answer.url().to_string(),
        version: answer.version(),
        status: answer.status(),
        headers: answer.headers().clone(),
        body: answer.bytes().await?,
        duration: sent.elapsed(),
    })
}
