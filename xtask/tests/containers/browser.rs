//! Pages in a browser: the reports of sample runs, and the platform's own page.

mod chart;
mod chromium;
mod platform;
mod reports;
mod samples;
