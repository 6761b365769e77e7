//! `resty`: code from the command line with the whole API, run as a user runs it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

fn resty() -> Command {
    // The server that runs the code stands beside it.
    assert!(PathBuf::from(env!("CARGO_BIN_EXE_moonlitd")).is_file());
    Command::new(env!("CARGO_BIN_EXE_resty"))
}

fn run(args: &[&str]) -> Output {
    resty().args(args).output().expect("resty was built beside this test")
}

/// Standard output; nothing may be wrong.
fn said(args: &[&str]) -> String {
    let output = run(args);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && err.is_empty(), "{:?}: {err}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn script(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("moonlit-resty-{}-{name}", std::process::id()));
    std::fs::write(&path, text).expect("the temporary folder can be written");
    path
}

#[test]
fn code_and_scripts_run_with_the_whole_api() {
    assert_eq!(said(&["-e", "print('a', 1, nil, ngx.null, {2, {true}})"]), "a1nilnull2true\n");
    assert_eq!(
        said(&["-e", "ngx.print(ngx.get_phase())", "-e", "ngx.sleep(0.001) ngx.say(jit ~= nil)"]),
        "timertrue\n"
    );
    assert_eq!(said(&["-l", "cjson", "-e", "print(package.loaded.cjson.encode{1})"]), "[1]\n");
    assert_eq!(said(&["-j", "off", "-e", "print((jit.status()))"]), "false\n");
    let path = script(
        "args.lua",
        "#!/usr/bin/env resty\nprint(arg[0] == ..., ' ', #arg, ' ', arg[1], ' ', arg[2], ' ', arg[-1] ~= nil)",
    );
    let path = path.to_str().expect("is text");
    assert_eq!(said(&[path, "x y", "-e"]), "false 2 x y -e true\n");
    let out = said(&[
        "--shdict",
        "d 1m",
        "--http-conf",
        "lua_max_running_timers 7;",
        "--main-conf",
        "env FROM_CONF=set;",
        "-e",
        "ngx.shared.d:set('k', 'v') print(ngx.shared.d:get('k'), os.getenv('FROM_CONF'), ngx.config.is_console)",
    ]);
    assert_eq!(out, "vsettrue\n");
    let threads = "local t = ngx.thread.spawn(function() ngx.sleep(0.001) return 5 end) print(select(2, ngx.thread.wait(t)))";
    assert_eq!(said(&["-e", threads]), "5\n");
    let _ = std::fs::remove_file(path);
}

#[test]
fn modules_are_found_where_they_are_said_to_be() {
    let folder = std::env::temp_dir().join(format!("moonlit-resty-{}-lib", std::process::id()));
    std::fs::create_dir_all(folder.join("deep")).expect("the temporary folder can be written");
    std::fs::write(folder.join("one.lua"), "return 'one'").expect("as above");
    std::fs::write(folder.join("deep/init.lua"), "return 'deep'").expect("as above");
    let dir = folder.to_str().expect("is text");
    assert_eq!(said(&["-I", dir, "-e", "print(require 'one', require 'deep')"]), "onedeep\n");
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn exit_codes_and_errors_reach_the_caller() {
    for (code, want) in [("os.exit(3)", 3), ("ngx.exit(4)", 4), ("error('boom')", 1), ("local = 1", 1)] {
        let output = run(&["-e", code]);
        assert_eq!(output.status.code(), Some(want), "{code}");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        match code {
            "error('boom')" => {
                assert!(err.starts_with("ERROR: (command line -e):1: boom\nstack traceback:\n"), "{err}")
            }
            "local = 1" => assert!(err.starts_with("ERROR: (command line -e):1: "), "{err}"),
            _ => assert!(err.is_empty(), "{err}"),
        }
    }
    let output = run(&["/none.lua"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "Lua input file /none.lua not found.\n");
    let output = run(&["--http-conf", "no_such_thing;", "-e", "print(1)"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("unknown directive \"no_such_thing\""));
}

#[test]
fn signals_end_the_code_and_nothing_is_left_behind() {
    let temp = script("temp", "");
    std::fs::remove_file(&temp).expect("was written");
    std::fs::create_dir(&temp).expect("the temporary folder can be written");
    for (signal, code) in [("-TERM", 143), ("-INT", 130)] {
        let mut child = resty()
            .args(["-e", "print('here') ngx.flush() ngx.sleep(1000)"])
            .env("TMPDIR", &temp)
            .stdout(Stdio::piped())
            .spawn()
            .expect("resty was built beside this test");
        let mut line = String::new();
        let out = child.stdout.take().expect("piped");
        BufReader::new(out).read_line(&mut line).expect("text");
        assert_eq!(line, "here\n");
        Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill is everywhere");
        assert_eq!(child.wait().expect("a child").code(), Some(code), "{signal}");
        assert_eq!(std::fs::read_dir(&temp).expect("is there").count(), 0, "{signal}");
    }
    let _ = std::fs::remove_dir(&temp);
}
