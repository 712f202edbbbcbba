//! Passes a Redis container its password: the same way for a pulled and a built image, and never on
//! a command line, which every process list shows.

/// The environment variable with the password in the container.
pub const PASSWORD_VARIABLE: &str = "REDIS_PASSWORD";

/// The user of the process. The official image and the built one have it.
pub const USER: &str = "redis";

/// Returns the container's command. `redis-server -` reads its configuration from standard input,
/// so the password is in no argument and no file. `exec` makes the server process 1, which stops
/// cleanly on SIGTERM.
///
/// The password may have any printable character but `"` and `\`, which the configuration's quoting
/// uses.
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
