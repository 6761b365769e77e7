//! The whole server with a plain interpreter: no JIT, no ffi. What `moonlitd` is without its extras.
//!
//! `cargo run -p moonlit-server --example interpreted -- -p examples/gateway/ -c nginx.conf`

use std::process::ExitCode;

use moonlit_vm::host::Lua;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    moonlit_server::cli::main(&args, || {
        let lua = Lua::new();
        // OpenResty builds its LuaJIT so.
        lua.with(|vm| vm.compat52 = true);
        lua
    })
}
