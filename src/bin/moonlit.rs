//! The `moonlit` executable.

fn main() -> std::process::ExitCode {
    moonlit::cli::main("moonlit")
}
