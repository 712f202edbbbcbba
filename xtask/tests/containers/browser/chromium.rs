//! Chromium without a window, and what its pages do.

use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chromiumoxide::cdp::browser_protocol::emulation::{
    MediaFeature, SetDeviceMetricsOverrideParams, SetScriptExecutionDisabledParams,
};
use chromiumoxide::cdp::browser_protocol::network::{
    EventRequestWillBeSent, GetResponseBodyParams,
};
use chromiumoxide::cdp::js_protocol::runtime::{EventConsoleApiCalled, EventExceptionThrown};
use chromiumoxide::cdp::{IntoEventKind, browser_protocol::log::EventEntryAdded};
use chromiumoxide::listeners::EventStream;
use chromiumoxide::{Browser, BrowserConfig, Page};
use futures::{FutureExt, StreamExt};
use machine::tools;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::machine::eventually;
use crate::rig::SECONDS;

/// For the start of the browser, and for each of its answers.
const ANSWER: Duration = Duration::from_secs(20);
/// For everything that a test does with it.
const TEST: Duration = Duration::from_secs(90);

/// The size of a page's window and its theme.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub width: i64,
    pub height: i64,
    pub theme: &'static str,
}

impl View {
    const fn of(width: i64, height: i64, theme: &'static str) -> View {
        View {
            width,
            height,
            theme,
        }
    }

    /// A phone and a wide screen, each light and dark.
    pub const ALL: [View; 4] = [
        View::of(360, 740, "light"),
        View::of(360, 740, "dark"),
        View::of(1600, 900, "light"),
        View::of(1600, 900, "dark"),
    ];
    pub const WIDE: View = View::ALL[2];
}

/// Starts a browser with these arguments, and ends it after the test, however that ends.
pub fn in_browser(arguments: &[(&str, &str)], test: impl AsyncFnOnce(&Browser)) {
    // On one thread, a page's events arrive before the answers that follow them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let profile = tempfile::tempdir().unwrap();
    let ended = runtime.block_on(async {
        let (mut browser, mut events) = Browser::launch(config(profile.path(), arguments))
            .await
            .unwrap();
        let handling = tokio::spawn(async move { while events.next().await.is_some() {} });
        let ended = timeout(TEST, AssertUnwindSafe(test(&browser)).catch_unwind()).await;
        browser.kill().await.unwrap().unwrap();
        handling.abort();
        ended
    });
    // Its other processes end with it, and may write until then.
    eventually("the profile is removed", SECONDS, || {
        std::fs::remove_dir_all(profile.path()).map_err(|error| error.to_string())
    });
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => resume_unwind(panic),
        Err(_) => panic!("the test in the browser has not ended within {TEST:?}"),
    }
}

fn config(profile: &Path, arguments: &[(&str, &str)]) -> BrowserConfig {
    let program = tools::chromium()
        .expect("these tests need Chromium; `cargo xtask test --provision` installs it");
    BrowserConfig::builder()
        .chrome_executable(program)
        // Its sandbox does not let root use it.
        .no_sandbox()
        .disable_https_first()
        .user_data_dir(profile)
        // What else it writes is removed with the profile, too.
        .envs(
            [("HOME", profile), ("TMPDIR", profile)]
                .map(|(name, path)| (name, path.display().to_string())),
        )
        .launch_timeout(ANSWER)
        .request_timeout(ANSWER)
        .args(arguments.iter().copied())
        .build()
        .unwrap()
}

/// A page, and what it has said and requested.
pub struct Tab {
    pub page: Page,
    calls: EventStream<EventConsoleApiCalled>,
    exceptions: EventStream<EventExceptionThrown>,
    entries: EventStream<EventEntryAdded>,
    requests: EventStream<EventRequestWillBeSent>,
}

impl Tab {
    /// Opens an empty page.
    pub async fn new(browser: &Browser, view: View) -> Tab {
        let page = browser.new_page("about:blank").await.unwrap();
        let tab = Tab {
            calls: page.event_listener().await.unwrap(),
            exceptions: page.event_listener().await.unwrap(),
            entries: page.event_listener().await.unwrap(),
            requests: page.event_listener().await.unwrap(),
            page,
        };
        tab.show(view).await;
        tab
    }

    pub async fn show(&self, view: View) {
        let size = SetDeviceMetricsOverrideParams::new(view.width, view.height, 1.0, false);
        self.page.execute(size).await.unwrap();
        let theme = MediaFeature::new("prefers-color-scheme", view.theme);
        self.page.emulate_media_features(vec![theme]).await.unwrap();
    }

    pub async fn without_scripts(&self) {
        let disabled = SetScriptExecutionDisabledParams::new(true);
        self.page.execute(disabled).await.unwrap();
    }

    /// Loads a page completely.
    pub async fn open(&self, url: &str) {
        self.page.goto(url).await.unwrap();
    }

    /// Returns the value of an expression in the page.
    pub async fn read<T: DeserializeOwned>(&self, expression: &str) -> T {
        let value = self.page.evaluate_expression(expression).await;
        value
            .and_then(|value| Ok(value.into_value()?))
            .unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression is true in the page.
    pub async fn becomes(&self, expression: &str) {
        const PAUSE: Duration = Duration::from_millis(10);
        let becomes = async {
            while !self.read::<bool>(expression).await {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let in_time = timeout(ANSWER, becomes).await;
        assert!(in_time.is_ok(), "not within {ANSWER:?}: {expression}");
    }

    pub async fn click(&self, selector: &str) {
        let element = self.page.find_element(selector).await.unwrap();
        element.click().await.unwrap();
    }

    /// Presses keys while the element has the focus.
    pub async fn press(&self, selector: &str, keys: &[&str]) {
        let element = self.page.find_element(selector).await.unwrap();
        element.focus().await.unwrap();
        for key in keys {
            element.press_key(key).await.unwrap();
        }
    }

    pub async fn write(&self, selector: &str, text: &str) {
        let element = self.page.find_element(selector).await.unwrap();
        element.focus().await.unwrap().type_str(text).await.unwrap();
    }

    /// Whether the page is wider than the window.
    pub async fn scrolls_sideways(&self) -> bool {
        self.read("document.documentElement.scrollWidth > innerWidth")
            .await
    }

    /// Returns the messages of the console since the last call: of scripts, and of the browser
    /// about the page, such as violations of its policy.
    pub fn messages(&mut self) -> Vec<String> {
        let calls = arrived(&mut self.calls).map(|it| format!("{:?}: {:?}", it.r#type, it.args));
        let exceptions = arrived(&mut self.exceptions);
        let exceptions = exceptions.map(|it| it.exception_details.text.clone());
        let entries = arrived(&mut self.entries);
        let entries = entries.map(|it| format!("{:?}: {}", it.entry.level, it.entry.text));
        calls.chain(exceptions).chain(entries).collect()
    }

    /// Returns the requests since the last call, except those for data in the page itself.
    pub fn requests(&mut self) -> Vec<Arc<EventRequestWillBeSent>> {
        let requests = arrived(&mut self.requests);
        requests
            .filter(|it| !it.request.url.starts_with("data:"))
            .collect()
    }

    /// Returns the answer to a request.
    pub async fn answer(&self, request: &EventRequestWillBeSent) -> String {
        let body = GetResponseBodyParams::new(request.request_id.clone());
        self.page.execute(body).await.unwrap().result.body
    }
}

/// Returns the events that have arrived.
fn arrived<T: IntoEventKind + Unpin>(stream: &mut EventStream<T>) -> impl Iterator<Item = Arc<T>> {
    std::iter::from_fn(|| stream.next().now_or_never().flatten())
}
