//! A test in a process of its own: this binary once more, with that one test. For what a process has only once: its
//! memory, its descriptors, its environment, its life.

use std::process::{Command, Output};

/// Tells the child that it is one, and what it has to know.
const TOLD: &str = "MAILFERRY_TEST_CHILD";

/// What the parent told this process, if it is the child.
pub fn told() -> Option<String> {
    std::env::var(TOLD).ok()
}

/// The command that runs the one test of this name (`module::name`) with what it is `told`.
pub fn command(test: &str, told: &str) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(TOLD, told);
    child
}

/// Runs it and waits until it has passed.
pub async fn passes(mut child: Command) {
    let Output { status, stdout, stderr } =
        tokio::task::spawn_blocking(move || child.output()).await.unwrap().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    // A name that is nobody's runs no test, and would pass.
    assert!(status.success() && stdout.contains("1 passed"), "{stdout}{stderr}");
}
