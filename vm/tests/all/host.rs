//! The embedding door: values in and out, callbacks, errors with tracebacks, panics, limits.

use moonlit_vm::host::{Error, Function, Lua, MultiValue, Table, Thread, ThreadStatus, Variadic};

#[test]
fn chunk_evaluates_expressions_and_blocks() {
    let lua = Lua::new();
    assert_eq!(lua.load("1 + 2").eval::<i32>().unwrap(), 3);
    assert_eq!(lua.load("local a = 'x' return a .. 'y'").eval::<String>().unwrap(), "xy");
    let (a, b): (i64, Option<String>) = lua.load("return 7, nil").eval().unwrap();
    assert_eq!((a, b), (7, None));
}

#[test]
fn callback_takes_and_returns_values() {
    let lua = Lua::new();
    let f = lua
        .create_function(|lua, (name, rest): (String, Option<f64>)| {
            let t = lua.create_table()?;
            t.set("name", name)?;
            t.set("n", rest.unwrap_or(0.5))?;
            Ok(t)
        })
        .unwrap();
    lua.globals().set("make", f).unwrap();
    let n: f64 = lua.load("local t = make('a') return t.n + #t.name").eval().unwrap();
    assert_eq!(n, 1.5);
}

#[test]
fn callback_may_call_lua() {
    let lua = Lua::new();
    let twice = lua
        .create_function(|_, (f, x): (Function, f64)| {
            let once: f64 = f.call(x)?;
            f.call::<f64>(once)
        })
        .unwrap();
    lua.globals().set("twice", twice).unwrap();
    assert_eq!(lua.load("twice(function(x) return x * 3 end, 2)").eval::<f64>().unwrap(), 18.0);
}

#[test]
fn variadic_arguments_and_results() {
    let lua = Lua::new();
    let f = lua
        .create_function(|_, v: Variadic<f64>| Ok(Variadic(v.iter().rev().copied().collect::<Vec<_>>())))
        .unwrap();
    lua.globals().set("rev", f).unwrap();
    let out: (f64, f64, f64) = lua.load("return rev(1, 2, 3)").eval().unwrap();
    assert_eq!(out, (3.0, 2.0, 1.0));
}

#[test]
fn runtime_error_has_message_and_traceback() {
    let lua = Lua::new();
    let e = lua
        .load("local function inner() local t = nil return t.x end\ninner()")
        .set_name("=c")
        .exec()
        .unwrap_err();
    let Error::RuntimeError { message, traceback } = e else { panic!("{e:?}") };
    assert_eq!(message, "c:1: attempt to index local 't' (a nil value)");
    assert!(traceback.starts_with("stack traceback:\n\tc:1: in function 'inner'\n\tc:2: in "), "{traceback}");
}

#[test]
fn syntax_error_names_chunk_and_line() {
    let lua = Lua::new();
    let e = lua.load("local = 1").set_name("=c").exec().unwrap_err();
    assert_eq!(e.to_string(), "c:1: '<name>' expected near '='");
    let Error::SyntaxError { incomplete_input, .. } = lua.load("if x then").exec().unwrap_err() else {
        panic!()
    };
    assert!(incomplete_input);
}

#[test]
fn error_of_a_callback_is_caught_by_lua_and_comes_back_to_rust() {
    let lua = Lua::new();
    let f =
        lua.create_function(|_, ()| -> Result<(), Error> { Err(Error::external("no such thing")) }).unwrap();
    lua.globals().set("f", f).unwrap();
    let (ok, text): (bool, String) =
        lua.load("local ok, e = pcall(f) return ok, tostring(e)").eval().unwrap();
    assert_eq!((ok, text.as_str()), (false, "no such thing"));
    let e = lua.load("f()").exec().unwrap_err();
    assert!(matches!(e, Error::ExternalError(_)), "{e:?}");
}

#[test]
fn panic_in_a_native_becomes_a_lua_error_and_the_vm_serves_on() {
    let lua = Lua::new();
    let f = lua.create_function(|_, n: f64| -> Result<f64, Error> {
        if n > 1.0 { panic!("too big") } else { Ok(n) }
    });
    lua.globals().set("f", f.unwrap()).unwrap();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let (ok, text): (bool, String) =
        lua.load("local ok, e = pcall(f, 2) return ok, tostring(e)").eval().unwrap();
    std::panic::set_hook(hook);
    assert!(!ok && text.contains("too big"), "{text}");
    assert_eq!(lua.load("f(1)").eval::<f64>().unwrap(), 1.0);
}

#[test]
fn handles_keep_values_alive_and_tables_iterate() {
    let lua = Lua::new();
    let t: Table = lua.load("{10, 20, x = 'y'}").eval().unwrap();
    lua.gc_collect().unwrap();
    assert_eq!(t.get::<f64>(2).unwrap(), 20.0);
    assert_eq!(t.raw_len(), 2);
    let n = t.pairs::<MultiValueKey, String>().count();
    assert_eq!(n, 3);
}

/// Any key at all.
struct MultiValueKey;
impl moonlit_vm::host::FromLua for MultiValueKey {
    fn from_lua(_: moonlit_vm::host::Value, _: &Lua) -> moonlit_vm::host::Result<Self> {
        Ok(MultiValueKey)
    }
}

#[test]
fn table_get_and_set_use_metamethods() {
    let lua = Lua::new();
    let t: Table =
        lua.load("setmetatable({}, {__index = function(_, k) return k .. '!' end})").eval().unwrap();
    assert_eq!(t.get::<String>("a").unwrap(), "a!");
    assert_eq!(t.raw_get::<Option<String>>("a").unwrap(), None);
}

#[test]
fn coroutine_is_driven_from_rust() {
    let lua = Lua::new();
    let body: Function =
        lua.load("function(a) local b = coroutine.yield(a + 1) return b * 2 end").eval().unwrap();
    let co: Thread = lua.create_thread(body).unwrap();
    assert_eq!(co.resume::<f64>(1.0).unwrap(), 2.0);
    assert_eq!(co.status(), ThreadStatus::Resumable);
    assert_eq!(co.resume::<f64>(5.0).unwrap(), 10.0);
    assert_eq!(co.status(), ThreadStatus::Finished);
    assert!(matches!(co.resume::<MultiValue>(()), Err(Error::CoroutineUnresumable)));
}

#[test]
fn memory_limit_is_a_catchable_error() {
    let lua = Lua::new();
    let used = lua.used_memory();
    lua.set_memory_limit(used + (4 << 20)).unwrap();
    let (ok, text): (bool, String) = lua
        .load(
            "local ok, e = pcall(function() local t = {} for i = 1, 1e9 do t[i] = {i} end end) return ok, e",
        )
        .eval()
        .unwrap();
    assert!(!ok && text.contains("not enough memory"), "{text}");
    lua.gc_collect().unwrap();
    assert_eq!(lua.load("1").eval::<i32>().unwrap(), 1);
}

#[test]
fn handle_of_another_vm_is_refused() {
    let (a, b) = (Lua::new(), Lua::new());
    let t = a.create_table().unwrap();
    assert!(matches!(b.globals().set("t", t), Err(Error::MismatchedVm)));
}

#[test]
fn a_vm_without_an_ffi_says_so() {
    let lua = Lua::new();
    let (ok, message): (bool, String) = lua.load("return pcall(require, 'ffi')").eval().unwrap();
    assert!(!ok && message.contains("'ffi' is not part of this VM"), "{message}");
    // Literals need none.
    assert_eq!(lua.load("return type(1LL)").eval::<String>().unwrap(), "cdata");
}
