//! How a Redis container is given its password: never on a command line, where
//! every process list shows it, and in the same way for either supply.

/// The environment variable that carries the password into the container.
pub const PASSWORD_VARIABLE: &str = "REDIS_PASSWORD";

/// The user to run as; both the official image and ours have it.
pub const USER: &str = "redis";

/// The container's command. `redis-server -` reads its configuration from
/// standard input, so the password is in no argument and no file; `exec` makes
/// the server process 1, which ends in order on SIGTERM.
///
/// The password may hold any printable character but `"` and `\`, which the
/// configuration's quoting gives a meaning.
pub fn command() -> [String; 3] {
    let script = format!(
        "exec redis-server - <<CONFIG\n\
         bind 0.0.0.0\n\
         dir /data\n\
         requirepass \"${PASSWORD_VARIABLE}\"\n\
         CONFIG\n"
    );
    ["sh".to_owned(), "-c".to_owned(), script]
}
