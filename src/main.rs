//! The `mailferry` command.

fn main() -> std::process::ExitCode {
    mailferry::cli::run(std::env::args_os())
}
