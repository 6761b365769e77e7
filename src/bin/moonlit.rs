//! The `moonlit` executable.

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    moonlit::cli::main("moonlit")
}
