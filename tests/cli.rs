//! `moonlit` from outside: flags, messages, exit codes, bytecode files, the interactive mode over a pipe and a terminal.

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const MOONLIT: &str = env!("CARGO_BIN_EXE_moonlit");

fn command() -> Command {
    let mut c = Command::new(MOONLIT);
    c.current_dir(env!("CARGO_TARGET_TMPDIR"));
    for name in ["LUA_INIT", "LUA_PATH", "LUA_CPATH", "MOONLIT_HISTORY"] {
        c.env_remove(name);
    }
    c
}

/// Runs with `input` on standard input.
fn run(c: &mut Command, input: &str) -> Output {
    let mut child = c
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // A program that does not read its input may be gone already.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace(MOONLIT, "moonlit")
}

/// After a peak of 200 MB the memory is the system's again, once the collector has seen that it is garbage.
#[test]
fn memory_goes_back_to_the_system_after_a_peak() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let program = file(
        "peak.lua",
        "local function resident()
           local f = io.open('/proc/self/statm') local _, pages = f:read('*n', '*n') f:close()
           return pages * 4096 / 2 ^ 20
         end
         local function grow(kind)
           local t = {}
           if kind == 'tables' then for i = 1, 1200000 do t[i] = {i, x = i} end
           elseif kind == 'strings' then for i = 1, 2000000 do t[i] = 'a string of some length ' .. i end
           elseif kind == 'large' then for i = 1, 200 do t[i] = ('x'):rep(2 ^ 20 - i) end
           elseif kind == 'closures' then for i = 1, 2000000 do t[i] = function() return i end end
           else for i = 1, 150000 do t[i] = coroutine.wrap(function() coroutine.yield(i) end) t[i]() end end
           return resident()
         end
         collectgarbage()
         local before = resident()
         for _, kind in ipairs {'tables', 'strings', 'large', 'closures', 'coroutines'} do
           local peak = grow(kind)
           collectgarbage() collectgarbage()
           local after = resident()
           print(kind, peak - before > 60 or peak, after - before < 40 or after)
         end",
    );
    let want = "tables\ttrue\ttrue\nstrings\ttrue\ttrue\nlarge\ttrue\ttrue\n\
                closures\ttrue\ttrue\ncoroutines\ttrue\ttrue\n";
    check(&["-joff", &program], "", want, "", 0);
}

#[test]
fn the_profiler_reports_at_the_end() {
    let program = file(
        "hot.lua",
        "local function hot() local s, t = 0, os.clock()
           while os.clock() - t < 0.3 do for i = 1, 1000 do s = s + i end end return s end hot()",
    );
    // `F` wins over `f`.
    let o = run(command().args(["-jp=fFi1", &program]), "");
    let report = text(&o.stdout);
    assert!(report.lines().any(|l| l.ends_with("%  hot.lua:hot")), "{report} {}", text(&o.stderr));
    assert!(o.status.success());
    let report = file("hot.profile", "");
    let o = run(command().args([&format!("-jp=rfi1,{report}"), &program]), "");
    assert!(o.status.success() && o.stdout.is_empty(), "{}", text(&o.stderr));
    let report = std::fs::read_to_string(&report).expect("it was written");
    assert!(report.lines().any(|l| l.ends_with("  hot") && !l.contains('%')), "{report}");
}

/// Addresses differ from run to run.
fn masked(s: &str) -> String {
    let mut out = String::new();
    let mut rest = s;
    while let Some(at) = rest.find("0x") {
        let digits = rest[at + 2..].find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len() - at - 2);
        out.push_str(&rest[..at]);
        out.push_str("0x");
        rest = &rest[at + 2 + digits..];
    }
    out + rest
}

/// Standard output, standard error and exit code of a command line.
fn check(args: &[&str], input: &str, out: &str, err: &str, code: i32) {
    let o = run(command().args(args), input);
    let got = (text(&o.stdout), masked(&text(&o.stderr)), o.status.code());
    assert_eq!(got, (out.to_string(), err.to_string(), Some(code)), "{args:?}");
}

fn file(name: &str, contents: &str) -> String {
    let path = format!("{}/{name}", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&path, contents).expect("the folder for temporary files is there");
    path
}

#[test]
fn chunks_and_scripts_run_in_the_order_given() {
    let script =
        file("cli_args.lua", "#!/usr/bin/env moonlit\nprint(..., arg[0], arg[1], arg[2], #arg, arg[-1])");
    check(&["-e", "x = 1", "-eprint(x)", "-e", "print(x + 1)"], "", "1\n2\n", "", 0);
    check(&[&script, "a", "b"], "", &format!("a\t{script}\ta\tb\t2\tmoonlit\n"), "", 0);
    check(&["-e", "arg = {'z'}", &script], "", "z\tnil\tz\tnil\t1\tnil\n", "", 0);
    check(&["--", &script, "a"], "", &format!("a\t{script}\ta\tnil\t1\t--\n"), "", 0);
    check(&["-"], "print(...)", "\n", "", 0);
    check(&["-", "a"], "print(...)", "a\n", "", 0);
    check(&[], "print 'piped'", "piped\n", "", 0);
    check(&["-v"], "print 'not run'", &format!("{}\n", moonlit::cli::script::VERSION), "", 0);
    check(&["-joff", "-e", "print((jit.status()))"], "", "false\n", "", 0);
    check(&["-e", "os.exit(3)"], "", "", "", 3);
    check(&["-e", "io.write('no newline') os.exit(true)"], "", "no newline", "", 0);
    let finalizer = "u = newproxy(true) getmetatable(u).__gc = function() print('closed') end";
    check(&["-e", finalizer, "-e", "os.exit(3, true)"], "", "closed\n", "", 3);
    check(&["-e", finalizer, "-e", "coroutine.wrap(os.exit)(false, false)"], "", "", "", 1);
}

#[test]
fn errors_are_reported_under_the_programs_name() {
    check(
        &["-e", "error('oops')"],
        "",
        "",
        "moonlit: (command line):1: oops\nstack traceback:\n\t[C]: in function 'error'\n\
         \t(command line):1: in main chunk\n\t[C]: at 0x\n",
        1,
    );
    check(&["-e", "error({})"], "", "", "moonlit: (error object is not a string)\n", 1);
    check(&["-e", "error(nil)"], "", "", "", 1);
    check(
        &["-e", "error(setmetatable({}, {__tostring = function() return 'mine' end}))"],
        "",
        "",
        "moonlit: mine\nstack traceback:\n\t[C]: in function 'error'\n\t(command line):1: in main chunk\n\t[C]: at 0x\n",
        1,
    );
    check(&["-e", "local x ="], "", "", "moonlit: (command line):1: unexpected symbol near '<eof>'\n", 1);
    check(&["nowhere.lua"], "", "", "moonlit: cannot open nowhere.lua: No such file or directory\n", 1);
    check(&["-jbad"], "", "", "moonlit: unknown luaJIT command or jit.* modules not installed\n", 1);
    #[cfg(feature = "jit")]
    check(&["-O+bad"], "", "", "moonlit: unknown or malformed optimization flag '+bad'\n", 1);
    let usage = run(command().arg("-x"), "");
    assert_eq!(usage.status.code(), Some(1));
    assert!(text(&usage.stderr).starts_with("usage: moonlit [options]... [script [args]...].\n"));
    let missing = run(command().args(["-l", "nowhere"]), "");
    assert!(
        text(&missing.stderr)
            .starts_with("moonlit: module 'nowhere' not found:\n\tno field package.preload['nowhere']\n")
    );
}

/// What `jit.dump` shows of a loop, in order.
#[cfg(feature = "jit")]
#[test]
fn traces_are_dumped_in_luajits_form() {
    let script = file(
        "cli_dump.lua",
        "local t, s = {}, 0\nfor i = 1, 100 do t[i] = i end\nfor i = 1, 300 do s = s + math.sin(t[1 + i % 50]) end\n",
    );
    let dump = |what: &str| {
        let o = run(
            command().env_remove("LUAJIT_DUMPFILE").args(["-Ojitsync", &format!("-jdump={what}"), &script]),
            "",
        );
        assert_eq!(o.status.code(), Some(0), "{what}: {}", text(&o.stderr));
        text(&o.stdout)
    };
    let has = |all: &str, parts: &[&str]| {
        let mut rest = all;
        for p in parts {
            let at = rest.find(p).unwrap_or_else(|| panic!("no {p:?} (in this place) in\n{all}"));
            rest = &rest[at + p.len()..];
        }
    };
    let code: &[&str] = if cfg!(target_arch = "x86_64") {
        &["---- TRACE 2 mcode ", "  push rbp\n", "->LOOP:\n", "\t->LOOP\n", "\t->0\n", "  dq 0x"]
    } else {
        &[]
    };
    let what = if code.is_empty() { "bisxT" } else { "bismxT" };
    let ir = [
        "---- TRACE 1 start cli_dump.lua:2\n",
        " FORL ",
        "---- TRACE 1 IR\n....        SNAP   #0   [ ---- ",
        "  tab.asize\n",
        "------ LOOP ------------\n",
        "int PHI ",
        "---- TRACE 1 stop -> loop\n\n",
        "---- TRACE 2 start cli_dump.lua:3\n",
        "\n0000  FUNCC               ; math.sin\n",
        "num FPMATH ",
        "  sin\n",
    ];
    let end = ["---- TRACE 2 stop -> loop\n\n", "---- TRACE 2 exit "];
    has(&dump(what), &[&ir[..], code, &end].concat());
    has(&dump("sT"), &["---- TRACE 1 snapshots\n#0   0001 [ ---- "]);
    has(&dump("iA"), &["\u{1b}[31mtab\u{1b}[m SLOAD "]);
    has(
        &dump("iH"),
        &["<style", "<pre class=\"ljdump\">\n", "<span class=\"irt_tab\">tab</span> SLOAD ", "</pre>\n"],
    );
    assert!(!dump("-mT").contains("mcode"));
    let path = file("cli_dump.txt", "");
    assert_eq!(dump(&format!("iT,{path}")), "");
    has(&std::fs::read_to_string(&path).expect("written"), &["---- TRACE 2 IR\n"]);
    check(&["-jdump=y", "-e", ""], "", "", "moonlit: dump of 'y' is not supported\n", 1);
    // Registers: of results, and of what an exit has saved.
    #[cfg(target_arch = "x86_64")]
    {
        let sums = file(
            "cli_registers.lua",
            "local s, t = 0.5\nfor i = 1, 100 do s = s + i if i > 90 then t = i end end\n",
        );
        let o = run(command().args(["-Ojitsync", "-jdump=irsXmT", &sums]), "");
        let all = text(&o.stdout);
        has(
            &all,
            &[
                "....              SNAP   #0   [ ",
                " r",
                "int SLOAD ",
                " xmm",
                "num CONV ",
                "------------ LOOP ------------\n",
                " xmm",
                " + num ADD ",
                "---- TRACE 1 exit ",
                "\n 000000000000005b\n",
                " +4186.5\n",
            ],
        );
        // The registers are those of the code.
        let sum = all.lines().filter(|l| l.contains(" + num ADD ")).next_back().expect("a sum");
        let register = sum.split(' ').nth(1).expect("a register");
        assert!(all.contains(&format!("addsd {register}, ")), "{register} in\n{all}");
    }
    #[cfg(feature = "disassemblers")]
    check(
        &["-e", "local d = require 'jit.dis_mips' local c = d.create_el('\\1\\0\\132\\36\\255\\255\\0\\16', 4096) c.symtab[4100] = 'there' c:disass() c.hexdump = 0 c:disass(4, 4)
                 local arm = require 'jit.dis_arm' arm.disass('\\2\\0\\160\\225\\255\\255\\255\\255\\1\\2', 16)
                 print(d.regname(31), d.regname(33), arm.regname(13), require('jit.dis_arm64be').regname(64))
                 for _, m in ipairs { 'ppc', 'mipsel', 'mips64', 'mips64el', 'mips64r6', 'mips64r6el', 'arm64' } do
                   io.write(m, ' ') require('jit.dis_' .. m).disass('\\0\\0\\0\\0')
                 end"],
        "",
        "00001000  24840001  addiu   $a0, $a0, 1\n00001004  1000ffff  b       0x1004\t->there\n\
         00001004  b       0x1004\t->there\n\
         00000010  e1a00002  mov     r0, r2\n00000014  ffffffff  .long   0xffffffff\n\
         ra\tf1\tsp\tnil\n\
         ppc 00000000  00000000  .long   0x00000000\nmipsel 00000000  00000000  nop\n\
         mips64 00000000  00000000  nop\nmips64el 00000000  00000000  nop\n\
         mips64r6 00000000  00000000  nop\nmips64r6el 00000000  00000000  nop\narm64 00000000  00000000  udf     #0\n",
        "",
        0,
    );
    check(
        &["-e", "local d = require 'jit.dis_x64' local c = d.create('\\x48\\x8b\\x46\\x08\\xc3\\x48', 4096) c:disass(0, 5) c.hexdump = 4 c:disass(5)
                 require('jit.dis_x86').disass('\\x40', 16) print(d.regname(0), d.regname(17))"],
        "",
        "00001000  488B4608          mov rax, [rsi+0x8]\n00001004  C3                ret\n00001005  48    (incomplete)\n\
         00000010  40                inc eax\nrax\txmm1\n",
        "",
        0,
    );
}

/// Recordings that are given up are told with LuaJIT's numbers.
#[cfg(feature = "jit")]
#[test]
fn aborts_are_told_by_number() {
    let script = file(
        "cli_abort.lua",
        "local texts = require('jit.vmdef').traceerr
         local told = {}
         jit.attach(function(what, tr, func, pc, why, info)
           if what == 'abort' then 
             if type(info) == 'number' then info = require('jit.vmdef').bcnames:sub(info * 6 + 1, info * 6 + 4) end
             if type(info) == 'function' then info = info == debug.getinfo and 'the function' end
             told[#told + 1] = why .. ' ' .. texts[why] .. ' ' .. tostring(info)
           end
         end, 'trace')
         for i = 1, 200 do local f = function() return i end end
         for i = 1, 200 do debug.getinfo(1) end
         table.sort(told)
         local last
         for _, t in ipairs(told) do if t ~= last then print(t) end last = t end
         print(texts[9], texts[26])\n",
    );
    let out = "15 NYI: unsupported variant of FastFunc %s the function\n7 NYI: bytecode %s FNEW\n\
         inner loop in root trace\tpersistent type instability\n";
    check(&["-Ojitsync", &script], "", out, "", 0);
    let script = file(
        "cli_aborted.lua",
        "for i = 1, 200 do debug.getinfo(1) end\nfor i = 1, 200 do local f = function() return i end end\n",
    );
    let dumped = run(command().args(["-Ojitsync", "-jdump=t", &script]), "");
    let dumped = text(&dumped.stdout);
    assert!(dumped.contains(" abort cli_aborted.lua:2 -- NYI: bytecode FNEW  \n"), "{dumped}");
    assert!(
        dumped.contains(" abort cli_aborted.lua:1 -- NYI: unsupported variant of FastFunc debug.getinfo\n"),
        "{dumped}"
    );
}

/// Lines of `-jv`: where they go, in order with the program's.
#[cfg(feature = "jit")]
#[test]
fn traces_are_told_in_lines() {
    let script =
        file("cli_verbose.lua", "print(1)\nfor i = 1, 200 do local x = i end\nprint(2)\njit.flush()\n");
    let told = "[TRACE   1 cli_verbose.lua:2 loop]\n";
    let all = format!("1\n{told}2\n[TRACE flush]\n");
    check(&["-Ojitsync", "-jv=-", &script], "", &all, "", 0);
    check(&["-Ojitsync", "-jv", &script], "", "1\n2\n", &format!("{told}[TRACE flush]\n"), 0);
    let o = run(command().env("LUAJIT_VERBOSEFILE", "-").args(["-Ojitsync", "-jv", &script]), "");
    assert_eq!(text(&o.stdout), all);
    let path = file("cli_verbose.txt", "what was there before");
    check(&["-Ojitsync", &format!("-jv={path}"), &script], "", "1\n2\n", "", 0);
    assert_eq!(std::fs::read_to_string(&path).expect("written"), format!("{told}[TRACE flush]\n"));
    let err = "moonlit: /nowhere/v: No such file or directory\n";
    check(&["-jv=/nowhere/v", "-e", ""], "", "", err, 1);
}

/// Rows as LuaJIT has them: words, standard input, output, message, exit code.
#[test]
fn odd_command_lines_end_as_they_do_there() {
    let string = "bad argument #1 to '?' (function expected, got string)";
    let traced =
        "\nstack traceback:\n\t[C]: in function 'error'\n\t(command line):1: in main chunk\n\t[C]: at 0x";
    let object = "(error object is not a string)";
    let rows: &[(&[&str], &str, &str, &str, i32)] = &[
        (&["-Ex", "-e", "print(1)"], "", "1\n", "", 0),
        (&["-e", ""], "", "", "", 0),
        (&["-e", "print(...)", "-", "a"], "print(...)", "\na\n", "", 0),
        (&["-v", "-e", "os.exit()"], "", &format!("{}\n", moonlit::cli::script::VERSION), "", 0),
        (&["-jon=x"], "", "", string, 1),
        (&["-joff=,,", "-e", "print(1)"], "", "1\n", "", 0),
        (&["-j", ""], "", "", "unknown luaJIT command or jit.* modules not installed", 1),
        (&["-jversion"], "", "", "unknown luaJIT command or jit.* modules not installed", 1),
        (&["-jutil"], "", "", "unknown luaJIT command or jit.* modules not installed", 1),
        // What a pipe brings may fail.
        (
            &[],
            "error('piped', 0)",
            "",
            "piped\nstack traceback:\n\t[C]: in function 'error'\n\tstdin:1: in main chunk\n\t[C]: at 0x",
            0,
        ),
        (&["-"], "x = = 1", "", "stdin:1: unexpected symbol near '='", 1),
        (&["-e", "error(true)"], "", "", object, 1),
        (&["-e", "error(newproxy())"], "", "", object, 1),
        (&["-e", "error(setmetatable({}, {__tostring = function() return {} end}))"], "", "", object, 1),
        (
            &["-e", "error(setmetatable({}, {__tostring = function() return 5 end}))"],
            "",
            "",
            &format!("5{traced}"),
            1,
        ),
        (&["-e", "error(7, 0)"], "", "", &format!("7{traced}"), 1),
        (&["-e", "os.exit(256)"], "", "", "", 0),
        (&["-e", "os.exit(-1)"], "", "", "", 255),
        (&["-e", "os.exit(3.7)"], "", "", "", 3),
        (&["-e", "os.exit('7')"], "", "", "", 7),
        (&["-e", "os.exit(nil)"], "", "", "", 0),
        (&["-e", "os.exit(false, true)"], "", "", "", 1),
        (&["-i", "-e", "os.exit(2)"], "=1\n", &format!("{}\n", moonlit::cli::script::VERSION), "", 2),
    ];
    for &(args, input, out, message, code) in rows {
        let err = if message.is_empty() { String::new() } else { format!("moonlit: {message}\n") };
        check(args, input, out, &err, code);
    }
    #[cfg(feature = "jit")]
    for (word, message) in [
        ("-O3,", "bad argument #2 to '?' (string expected, got nil)"),
        ("-O,", "bad argument #1 to '?' (string expected, got nil)"),
        ("-O10", "unknown or malformed optimization flag '10'"),
        ("-Ohotloop=1x", "unknown or malformed optimization flag 'hotloop=1x'"),
        ("-O hotloop=1", "unknown or malformed optimization flag ' hotloop=1'"),
    ] {
        check(&[word], "", "", &format!("moonlit: {message}\n"), 1);
        check(&["-O", "-O9", "-O3,-fold,hotloop=5", "-e", "print(1)"], "", "1\n", "", 0);
    }
    let o = run(command().env("LUA_INIT", "error({})").args(["-e", "print(1)"]), "");
    assert_eq!((text(&o.stdout), text(&o.stderr)), (String::new(), format!("moonlit: {object}\n")));
    let o = run(command().env("LUA_INIT", "@nowhere.lua").args(["-e", "print(1)"]), "");
    assert_eq!(text(&o.stderr), "moonlit: cannot open nowhere.lua: No such file or directory\n");
    assert_eq!((text(&o.stdout), o.status.code()), (String::new(), Some(1)));
    let o = run(command().env("LUA_INIT", "os.exit(4)").args(["-e", "print(1)"]), "");
    assert_eq!((text(&o.stdout), o.status.code()), (String::new(), Some(4)));
    let o = run(command().env("LUA_INIT", "print 'first'").args(["-bl", "-e", "return"]), "");
    assert!(text(&o.stdout).starts_with("first\n-- BYTECODE -- "), "{}", text(&o.stdout));
    let o = run(command().env("LUA_INIT", "error('no', 0)").args(["-bl", "-e", "return"]), "");
    assert_eq!((text(&o.stdout), o.status.code()), (String::new(), Some(1)));
}

#[test]
fn lua_init_runs_first_unless_told_not_to() {
    let init = file("cli_init.lua", "print('init', #arg, arg[0])");
    let o = run(command().env("LUA_INIT", "print 'direct'").args(["-e", "print 'then'"]), "");
    assert_eq!(text(&o.stdout), "direct\nthen\n");
    let o = run(command().env("LUA_INIT", format!("@{init}")).args(["-e", "print 'then'"]), "");
    assert_eq!(text(&o.stdout), "init\t0\tnil\nthen\n");
    let o = run(command().env("LUA_INIT", "error 'bad'").args(["-E", "-e", "print 'then'"]), "");
    assert_eq!(text(&o.stdout), "then\n");
    let o = run(command().env("LUA_INIT", "error('bad', 0)").args(["-e", "print 'then'"]), "");
    assert_eq!((text(&o.stdout), o.status.code()), (String::new(), Some(1)));
    assert!(text(&o.stderr).starts_with("moonlit: bad\n"));
    let o = run(command().env("LUA_PATH", "/x/?.lua;;").args(["-e", "print(package.path:sub(1, 9))"]), "");
    assert_eq!(text(&o.stdout), "/x/?.lua;\n");
    let o = run(
        command().env("LUA_PATH", "/x/?.lua").args(["-E", "-e", "print(package.path:find('/x/', 1, true))"]),
        "",
    );
    assert_eq!(text(&o.stdout), "nil\n");
}

#[test]
fn a_pipe_drives_the_interactive_mode() {
    let session =
        "x = 1\n=x + 1\nfor i = 1, 2 do\nprint(i)\nend\nlocal y = 5\n=y\nerror('e', 0)\nx +\n=x, 2\n";
    let o = run(command().arg("-i"), session);
    let out = text(&o.stdout);
    let body = out.splitn(3, '\n').nth(2).expect("version and status come first");
    assert!(out.starts_with("Moonlit "), "{out}");
    assert_eq!(body, "> > 2\n> >> >> 1\n2\n> > nil\n> > > 1\t2\n> \n");
    let err = text(&o.stderr);
    assert!(err.starts_with("e\nstack traceback:\n"), "{err}");
    assert!(err.ends_with("stdin:1: '=' expected near '+'\n"), "{err}");
    let o = run(command().args(["-e", "_PROMPT, _PROMPT2 = 'one ', 'two '", "-i"]), "f(\n1)\n");
    assert!(text(&o.stdout).ends_with("one two one \n"), "{}", text(&o.stdout));
    // `io.read` reads what follows.
    let o = run(command().args(["-e", "_PROMPT = ''", "-i"]), "=io.read()\nthe line\n=1\n");
    assert!(text(&o.stdout).ends_with("the line\n1\n\n"), "{}", text(&o.stdout));
}

/// A command on a terminal of its own, by `script` of util-linux; `None` where there is none.
///
/// The shell that `script` starts steps aside: one that waits for the command is in the terminal's foreground group
/// too, and a Ctrl-C ends it (`dash`, which is what `script` takes where `SHELL` is not set).
fn on_terminal(line: &str) -> Option<Child> {
    if Command::new("script").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("skipped: there is no `script` to make a terminal");
        return None;
    }
    let mut c = Command::new("script");
    let exec = format!("exec {line}");
    c.args(["-qec", &exec, "/dev/null"]).env("SHELL", "/bin/sh").current_dir(env!("CARGO_TARGET_TMPDIR"));
    c.env("TERM", "xterm").env("MOONLIT_HISTORY", "").env_remove("LUA_INIT");
    c.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    Some(c.spawn().expect("`script` starts"))
}

/// Reads until `want` has come, and takes it and what came before it out of `seen`; the latter is the result.
fn read_until(child: &mut Child, seen: &mut String, want: &str) -> String {
    let out = child.stdout.as_mut().expect("a pipe");
    let start = Instant::now();
    let mut buf = [0; 4096];
    while !seen.contains(want) {
        assert!(start.elapsed() < Duration::from_secs(60), "no {want:?} in {seen:?}");
        let n = out.read(&mut buf).expect("the terminal speaks");
        assert!(n > 0, "it ended without {want:?}: {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&buf[..n]));
    }
    let at = seen.find(want).expect("just seen");
    let before: String = seen.drain(..at).collect();
    seen.drain(..want.len());
    before
}

/// Waits until the line editor reads keys. A key that comes before is the terminal's: Ctrl-C is a signal then, and
/// Ctrl-D is lost. The prompt alone does not tell, it is drawn again with each key.
fn read_prompt(child: &mut Child, seen: &mut String, prompt: &str) {
    read_until(child, seen, "\x1b[?2004h");
    read_until(child, seen, prompt);
}

#[test]
fn a_terminal_edits_lines_and_ctrl_c_interrupts() {
    let Some(mut child) = on_terminal(MOONLIT) else { return };
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut say = |s: &str| {
        stdin.write_all(s.as_bytes()).and_then(|()| stdin.flush()).expect("the terminal listens");
    };
    let mut seen = String::new();
    read_until(&mut child, &mut seen, "JIT:");
    read_prompt(&mut child, &mut seen, "> ");
    // A wrong letter is taken back.
    say("print(6 * 8\x7f7)\r");
    read_until(&mut child, &mut seen, "42\r\n");
    read_prompt(&mut child, &mut seen, "> ");
    say("for i = 1, 2 do\r");
    read_prompt(&mut child, &mut seen, ">> ");
    say("print('line ' .. i) end\r");
    read_until(&mut child, &mut seen, "line 2\r\n");
    read_prompt(&mut child, &mut seen, "> ");
    // The last line again, from the history.
    say("\x1b[A\r");
    read_until(&mut child, &mut seen, "line 2\r\n");
    read_prompt(&mut child, &mut seen, "> ");
    say("print('loop' .. 'ing') while true do end\r");
    read_until(&mut child, &mut seen, "looping\r\n");
    say("\x03");
    read_until(&mut child, &mut seen, "interrupted!");
    // Ctrl-C at the prompt drops what was typed.
    read_prompt(&mut child, &mut seen, "> ");
    say("garbage\x03");
    read_prompt(&mut child, &mut seen, "> ");
    say("print('al' .. 'ive')\r");
    read_until(&mut child, &mut seen, "alive\r\n");
    // Between chunks Ctrl-C as a signal does nothing.
    read_prompt(&mut child, &mut seen, "> ");
    say("print('pid ' .. io.open('/proc/self/stat'):read('*n') .. '.')\r");
    read_until(&mut child, &mut seen, "\r\npid ");
    let pid = read_until(&mut child, &mut seen, ".\r\n");
    read_prompt(&mut child, &mut seen, "> ");
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    say("print('still ' .. 'alive')\r");
    read_until(&mut child, &mut seen, "still alive\r\n");
    read_prompt(&mut child, &mut seen, "> ");
    say("\x04");
    let status = child.wait().expect("it ends");
    assert!(status.success(), "{status}, after {seen:?}");
}

#[test]
fn ctrl_c_ends_a_script_with_an_error() {
    let mut child = command()
        .args(["-e", "print 'ready' io.flush() while true do end"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut ready = [0; 6];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("it gets ready");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    let o = child.wait_with_output().expect("it ends");
    assert_eq!(o.status.code(), Some(1));
    let err = text(&o.stderr);
    assert!(err.starts_with("moonlit: (command line):1: interrupted!\nstack traceback:\n"), "{err}");
}

/// `jit.bcsave` as a module: the words of `-b`, and its ways to end.
#[test]
fn bytecode_is_saved_from_lua_too() {
    let source = file("cli_module.lua", "return ...");
    let by_option = run(command().args(["-b", "-g", "-t", "c", &source, "-"]), "");
    let call = format!("require('jit.bcsave').start('-g', '-t', 'c', '{source}', '-')");
    check(&["-e", &call], "", &text(&by_option.stdout), "", 0);
    check(&[&format!("-jbcsave=-gt,c,{source},-")], "", &text(&by_option.stdout), "", 0);
    let list = "print 'first' require('jit.bcsave').start('-l', '-e', 'return 1')";
    let o = run(command().args(["-e", list]), "");
    assert!(text(&o.stdout).starts_with("first\n-- BYTECODE -- "), "{}", text(&o.stdout));
    check(
        &["-e", "print(pcall(require('jit.bcsave').start, '-t', 'exe', 'x', 'y'))"],
        "",
        "",
        "moonlit: unknown file type\n",
        1,
    );
    let o = run(command().args(["-e", "require('jit.bcsave').start('x')"]), "");
    assert_eq!(o.status.code(), Some(1));
    assert!(text(&o.stderr).starts_with("Save bytecode: "), "{}", text(&o.stderr));
    check(
        &["-e", "print(pcall(require('jit.bcsave').start, '-l', print))"],
        "",
        "false\tbad argument #2 to '?' (string expected, got function)\n",
        "",
        0,
    );
}

#[test]
fn bytecode_is_saved_in_every_form() {
    let source = file("cli-mod.lua", "print('from bytecode', ...)");
    let folder = env!("CARGO_TARGET_TMPDIR");
    let raw = format!("{folder}/cli-mod.out");
    check(&["-b", &source, &raw], "", "", "", 0);
    check(&[&raw, "x"], "", "from bytecode\tx\n", "", 0);
    let bytes = std::fs::read(&raw).expect("it was written");
    assert!(bytes.starts_with(b"\x1bLJ"));
    let kept = format!("{folder}/cli-mod-g.out");
    check(&["-bg", &source, &kept], "", "", "", 0);
    assert!(std::fs::read(&kept).expect("it was written").len() > bytes.len());
    check(
        &["-bd", "-", "-"],
        "return 1",
        &text(&run(command().args(["-bd", "-e", "return 1", "-"]), "").stdout),
        "",
        0,
    );

    let list: Vec<String> = bytes.iter().map(|b| b.to_string()).collect();
    let c = run(command().args(["-b", "-t", "c", &source, "-"]), "");
    let c = text(&c.stdout);
    assert!(
        c.starts_with(
            "#ifdef __cplusplus\nextern \"C\"\n#endif\n#ifdef _WIN32\n__declspec(dllexport)\n#elif"
        ),
        "{c}"
    );
    assert!(c.contains("\n#endif\nconst unsigned char luaJIT_BC_cli_mod[] = {\n"), "{c}");
    assert!(c.lines().all(|l| l.starts_with('#') || l.len() <= 78), "{c}");
    for (input, name) in [("return 1", "return"), ("x_1 = 'a/b-c.d.e'", "b_c_d")] {
        let c = run(command().args(["-b", "-t", "h", "-e", input, "-"]), "");
        assert!(
            text(&c.stdout).starts_with(&format!("#define luaJIT_BC_{name}_SIZE ")),
            "{}",
            text(&c.stdout)
        );
    }
    let body = c.split("= {\n").nth(1).and_then(|b| b.strip_suffix("\n};\n")).expect("an array");
    assert_eq!(body.replace('\n', ""), list.join(","));
    let header = format!("{folder}/cli-mod.h");
    check(&["-b", "-n", "a.b-c", &source, &header], "", "", "", 0);
    let h = std::fs::read_to_string(&header).expect("it was written");
    assert!(
        h.starts_with(&format!(
            "#define luaJIT_BC_a_b_c_SIZE {}\nstatic const unsigned char luaJIT_BC_a_b_c[] = {{\n",
            bytes.len()
        )),
        "{h}"
    );

    let object = format!("{folder}/cli-mod.o");
    let starts: [(&str, &str, &[u8]); 6] = [
        ("linux", "x64", b"\x7fELF\x02\x01\x01\0"),
        ("linux", "ARM64", b"\x7fELF\x02\x01\x01\0"),
        ("freebsd", "mips", b"\x7fELF\x01\x02\x01\x09"),
        ("windows", "x64", b"\x64\x86\x02\0"),
        ("osx", "arm64", b"\xcf\xfa\xed\xfe\x0c\0\0\x01"),
        ("osx", "x64", b"\xcf\xfa\xed\xfe\x07\0\0\x01"),
    ];
    for (os, arch, start) in starts {
        check(&["-b", "-a", arch, "-o", os, &source, &object], "", "", "", 0);
        let o = std::fs::read(&object).expect("it was written");
        assert!(o.starts_with(start), "{os} {arch}");
        assert!(o.windows(bytes.len()).any(|w| w == bytes));
        if os != "linux" {
            continue;
        }
        match Command::new("nm").arg(&object).output() {
            Ok(nm) => {
                assert!(text(&nm.stdout).trim_end().ends_with(" R luaJIT_BC_cli_mod"), "{}", text(&nm.stdout))
            }
            Err(_) => eprintln!("skipped: there is no `nm`"),
        }
    }
    for (args, message) in [
        (&["-b", "-t", "exe", "x", "y"][..], "unknown file type"),
        (&["-b", "-a", "vax", "x", "y"], "unknown architecture"),
        (&["-b", "-o", "beos", "x", "y"], "unknown OS name"),
        (&["-b", "-o", "osx", "-a", "x86", "-e", "return", "y.o"], "unsupported architecture for OSX"),
        (
            &["-b", "-o", "windows", "-a", "mips", "-e", "return", "y.o"],
            "unsupported architecture for Windows",
        ),
        (&["-b", "-W", "x", "y"], "-W: there is no 32-bit form of this bytecode"),
        (&["-b", "-e", "::l::", "x.c"], "cannot derive module name, use -n name"),
        (&["-b", "-n", "a b", "x", "y"], "bad module name"),
        (&["-b", "nowhere.lua", "y"], "cannot open nowhere.lua: No such file or directory"),
        (&["-b", "-e", "return", "/nowhere/y"], "/nowhere/y: No such file or directory"),
        (&["-b", "-e", "return", "."], ".: Is a directory"),
        (&["-b", "-e", "x =", "y"], "[string \"x =\"]:1: unexpected symbol near '<eof>'"),
    ] {
        check(args, "", "", &format!("moonlit: {message}\n"), 1);
    }
    if std::path::Path::new("/dev/full").exists() {
        for kind in ["raw", "c", "h", "o"] {
            let err = "moonlit: cannot write /dev/full: No space left on device\n";
            check(&["-bt", kind, "-n", "m", &source, "/dev/full"], "", "", err, 1);
        }
    }
    // The source may stand behind more flags.
    let o = run(command().args(["-ble", "-F", "name", "return 1"]), "");
    assert!(text(&o.stdout).starts_with("-- BYTECODE -- \"return 1\":0-1\n"), "{}", text(&o.stdout));
    let usage = run(command().arg("-b"), "");
    assert_eq!(usage.status.code(), Some(1));
    assert!(text(&usage.stderr).starts_with("Save bytecode: moonlit -b[options] input output\n"));
}

#[test]
fn listings_are_those_of_jit_bc() {
    let code = "local u = 1 local function f(a, ...) u = u + a.x return {1, x = 'long string \\n' .. u}, ... end \
                for k, v in pairs(_G) do f(v, k) end return f";
    let listed = run(command().args(["-bl", "-e", code]), "");
    let script = "local f = loadstring(arg[1]) require('jit.bc').dump(f, io.stdout, true)";
    let script = file("cli_list.lua", script);
    let dumped = run(command().args(["-joff", &script, code]), "");
    let masked_list = masked(&text(&listed.stdout));
    assert_eq!(masked_list, masked(&text(&dumped.stdout)));
    assert!(masked_list.contains("TGETS"), "{masked_list}");
    let listed = format!("{}/cli.list", env!("CARGO_TARGET_TMPDIR"));
    check(&["-bl", "-e", "return 1", &listed], "", "", "", 0);
    let text = std::fs::read_to_string(&listed).expect("it was written");
    assert_eq!(text, "-- BYTECODE -- \"return 1\":0-1\n0001    KSHORT   0   1\n0002    RET1     0   2\n\n");
    // Every chunk as it is loaded.
    let o = run(command().args(["-jbc", "-e", "return 7"]), "");
    assert!(self::text(&o.stderr).starts_with("-- BYTECODE -- (command line):0-1\n0001    KSHORT   0   7\n"));
}

/// The server is another executable; under its names this one says so. Under LuaJIT's names it is what it is.
#[test]
#[cfg(unix)]
fn the_names_of_the_server_are_refused() {
    use std::os::unix::process::CommandExt;
    for name in ["nginx", "openresty", "/usr/sbin/moonlitd", "resty"] {
        let o = run(command().arg0(name).args(["-e", "print(1)"]), "");
        assert_eq!((o.status.code(), text(&o.stdout).as_str()), (Some(1), ""), "{name}");
        let said = text(&o.stderr);
        assert!(said.contains("has no server: call `moonlitd` or `resty`"), "{name}: {said}");
    }
    for name in ["lua", "luajit", "anything"] {
        let o = run(command().arg0(name).args(["-e", "print(1)"]), "");
        assert_eq!(
            (o.status.code(), text(&o.stdout).as_str()),
            (Some(0), "1\n"),
            "{name}: {}",
            text(&o.stderr)
        );
    }
}
