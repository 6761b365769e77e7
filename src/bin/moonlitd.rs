//! The `moonlitd` executable.

fn main() -> std::process::ExitCode {
    moonlit::cli::main("moonlitd")
}
