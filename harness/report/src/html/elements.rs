//! Elements that all sections use. A tone always has a colour and an icon.

use maud::{Markup, html};

use super::super::tone::Tone;

impl Tone {
    /// The class in `style.css`.
    pub(super) fn class(self) -> &'static str {
        match self {
            Tone::Good => "good",
            Tone::Bad => "bad",
            Tone::Warn => "warn",
            Tone::Quiet => "quiet",
        }
    }

    /// The sign inside the icon's circle, as an SVG path in a box of 16 by 16.
    fn sign(self) -> &'static str {
        match self {
            Tone::Good => "M4.5 8.4 7 10.8 11.6 5.6",
            Tone::Bad => "M5.3 5.3l5.4 5.4M10.7 5.3l-5.4 5.4",
            Tone::Warn => "M8 4.2v4.6M8 11.3v.2",
            Tone::Quiet => "M5 8h6",
        }
    }
}

/// The icon of a tone, next to a word.
pub(super) fn icon(tone: Tone) -> Markup {
    html! {
        svg class={ "icon " (tone.class()) } viewBox="0 0 16 16" aria-hidden="true" {
            circle cx="8" cy="8" r="7.5" {}
            path d=(tone.sign()) {}
        }
    }
}

/// A word with its tone.
pub(super) fn badge(tone: Tone, word: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (icon(tone)) (word) } }
}

/// A table that may be wider than the page. The keyboard scrolls it too. `of` is the id of its
/// heading.
pub(super) fn wide_table(class: &str, of: &str, headings: &[&str], rows: Markup) -> Markup {
    html! {
        div class=(class) tabindex="0" role="region" aria-labelledby=(of) {
            table {
                thead { tr { @for heading in headings { th scope="col" { (heading) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// A cell with a share as a bar, which is of a class of `style.css`. The next cell has its number.
pub(super) fn share_bar(class: &str, percent: &str) -> Markup {
    html! {
        td.share {
            span.track aria-hidden="true" {
                span class={ "bar " (class) } style={ "width: " (percent) "%" } {}
            }
        }
    }
}

/// The tab's icon, so that a failed run is visible among many tabs.
pub(super) fn favicon(tone: Tone) -> String {
    let colour = match tone {
        Tone::Good => "1a7f37",
        Tone::Bad => "cf222e",
        Tone::Warn => "9a6700",
        Tone::Quiet => "59636e",
    };
    format!(
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'>\
         <circle cx='8' cy='8' r='8' fill='%23{colour}'/>\
         <path d='{}' fill='none' stroke='white' stroke-width='2'/></svg>",
        tone.sign()
    )
}
