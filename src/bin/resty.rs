//! The `resty` executable.

#[global_allocator]
static ALLOCATOR: moonlit::cli::allocator::Stocked = moonlit::cli::allocator::Stocked;

fn main() -> std::process::ExitCode {
    moonlit::cli::several::main("resty")
}
