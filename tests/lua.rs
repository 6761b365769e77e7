//! Runs the Lua cases of `lua-tests/` through the `moonlit` binary in every mode.

use std::path::Path;

use moonlit_lua_tests::runner::run_dir;

fn check(modes: &[&str]) {
    let modes: Vec<&str> =
        modes.iter().copied().filter(|m| cfg!(feature = "jit") || !m.starts_with("jit")).collect();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("lua-tests");
    let sum = run_dir(Path::new(env!("CARGO_BIN_EXE_moonlit")), &dir, &modes, cfg!(feature = "ffi"));
    assert!(
        sum.failures.is_empty(),
        "{} of {} runs fail\n{}",
        sum.failures.len(),
        sum.runs,
        sum.failures.join("\n")
    );
    assert!(sum.runs > 0 || modes.is_empty(), "no case was run");
}

#[test]
fn cases_give_the_same_interpreted() {
    check(&["interp"]);
}

#[test]
fn cases_give_the_same_compiled() {
    check(&["jit", "jit-hot"]);
}

#[test]
fn cases_give_the_same_on_slices_of_fuel() {
    check(&["fuel"]);
}

#[test]
fn cases_give_the_same_under_collector_stress() {
    check(&["zeal", "steps", "jit-zeal"]);
}
