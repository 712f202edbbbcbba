//! Which outcome an error is.

use std::error::Error;
use std::io::{self, ErrorKind};

use crate::answer::Outcome;

/// Of connecting, and of agreeing on TLS.
pub fn of_io(error: &io::Error) -> Outcome {
    if let Some(tls) = cause::<rustls::Error>(error) {
        return Outcome::Tls(tls.to_string());
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => Outcome::Refused,
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Outcome::Reset,
        ErrorKind::TimedOut => Outcome::TimedOut,
        // No free port, no free file: this side's lack.
        ErrorKind::AddrNotAvailable => Outcome::Dropped,
        _ if is_out_of_files(error) => Outcome::Dropped,
        _ => Outcome::Unreachable(error.to_string()),
    }
}

/// Of a request on a connection that is there.
pub fn of_http(error: &hyper::Error) -> Outcome {
    if let Some(io) = cause::<io::Error>(error) {
        return of_io(io);
    }
    let ended = error.is_incomplete_message() || error.is_closed() || error.is_canceled();
    match (ended, error.source()) {
        (true, _) => Outcome::Reset,
        (false, Some(source)) => Outcome::Protocol(format!("{error}: {source}")),
        (false, None) => Outcome::Protocol(error.to_string()),
    }
}

fn is_out_of_files(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE))
}

/// The first of this kind among an error and what caused it.
fn cause<'a, E: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        // What an io::Error wraps is not its source, but its source's is.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}
