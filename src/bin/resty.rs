//! The `resty` executable.

fn main() -> std::process::ExitCode {
    moonlit::cli::main("resty")
}
