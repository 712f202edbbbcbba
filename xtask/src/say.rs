//! Printing that a closed pipe does not turn into a panic: `cargo xtask e2e 2>&1 | head`
//! takes its environment down and ends with its own exit code all the same.

/// A line on standard error.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

/// A line on standard output.
macro_rules! print_line {
    ($($text:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}
