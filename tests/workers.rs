//! `moonlitd` with JIT and ffi in several processes: what the master does before the fork, and what a script
//! that forks by itself does, harms nobody.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest wait for something that must come about.
const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// Starts a daemon with this inside `http {}`; `LISTEN` stands for the listen line.
    fn start(name: &str, http: &str) -> Server {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a free port").port();
        let folder = std::env::temp_dir().join(format!("moonlit-workers-{}-{name}", std::process::id()));
        std::fs::create_dir_all(folder.join("logs")).expect("the temporary folder can be written");
        let listen = format!("listen 127.0.0.1:{port};");
        let conf = format!(
            "worker_processes 2; error_log logs/error.log info; events {{ }} http {{ {} }}",
            http.replace("LISTEN", &listen)
        );
        std::fs::write(folder.join("nginx.conf"), conf).expect("as above");
        let server = Server { folder, port };
        let output = server.run(&[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server
    }

    fn run(&self, args: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_moonlitd"))
            .arg("-p")
            .arg(self.folder.join(""))
            .args(["-c", "nginx.conf"])
            .args(args)
            .output()
            .expect("moonlitd was built beside this test")
    }

    fn get(&self, path: &str) -> String {
        let answer = self.answer(path);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", self.log());
        answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
    }

    fn answer(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a positive time");
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("the server reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the server answers");
        answer
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("logs/error.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run(&["-s", "quit"]);
        let start = Instant::now();
        while self.folder.join("logs/nginx.pid").exists() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const CONF: &str = r#"
  init_by_lua_block {
    require("jit.opt").start("hotloop=5")
    local s = 0
    for i = 1, 1e5 do s = s + i end
    warm = s
  }
  server { LISTEN
    location /sum { content_by_lua_block {
      local s = 0
      for i = 1, 1e6 do s = s + i % 7 end
      ngx.print(ngx.worker.id(), " ", warm, " ", s)
    } }
    location /array { content_by_lua_block {
      local t, s = {}, 0
      for i = 1, 1e5 do t[i] = i * 2 end
      for i = 1, #t do s = s + t[i] end
      ngx.print(ngx.worker.id(), " ", warm, " ", s)
    } }
    location /fork { content_by_lua_block {
      local ffi = require "ffi"
      ffi.cdef "int fork(void); void _exit(int); int waitpid(int, int *, int);"
      local pid = ffi.C.fork()
      if pid == 0 then
        local s = 0
        for i = 1, 1e5 do s = s + i end
        ffi.C._exit(s == warm and 7 or 1)
      end
      local status = ffi.new "int[1]"
      ffi.C.waitpid(pid, status, 0)
      ngx.print("child ", bit.rshift(status[0], 8))
    } }
  }
"#;

#[test]
fn workers_compile_their_own_loops_and_a_forking_script_harms_nobody() {
    let server = Server::start("compile", CONF);
    let mut seen = [false; 2];
    let start = Instant::now();
    // Which worker answers is the kernel's choice: asked side by side, both get their turn.
    while !(seen[0] && seen[1]) && start.elapsed() < PATIENCE {
        let answers: Vec<(String, String)> = std::thread::scope(|scope| {
            let tasks: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (server.get("/sum"), server.get("/array")))).collect();
            tasks.into_iter().map(|task| task.join().expect("no panic")).collect()
        });
        for (sum, array) in answers {
            for (answer, want) in [(sum, "5000050000 2999998"), (array, "5000050000 10000100000")] {
                let (id, rest) = answer.split_once(' ').expect("number and sums");
                assert_eq!(rest, want);
                seen[id.parse::<usize>().expect("a worker's number")] = true;
            }
        }
    }
    assert_eq!(seen, [true, true], "both workers served");
    for _ in 0..3 {
        assert_eq!(server.get("/fork"), "child 7");
    }
    assert!(server.get("/sum").ends_with(" 5000050000 2999998"), "the worker that forked serves on");
    assert!(!server.log().contains("exited on signal"), "{}", server.log());
}

#[test]
fn compiled_loops_end_when_their_time_on_cpu_is_used_up() {
    let codes = [
        "local s = 0 while true do s = s + 1 end",
        "while true do pcall(function() local s = 0 while true do s = s + 1 end end) end",
        "local t = {} while true do for i = 1, 100 do t[i] = i end end",
        "while true do local s = ('x'):rep(10) .. 'y' end",
        "local function f(n) if n == 0 then return 0 end return f(n - 1) + 1 end while true do f(50) end",
        "local x = ffi.new('int[10]') while true do x[3] = x[3] + 1 end",
    ];
    let locations: String = codes
        .iter()
        .enumerate()
        .map(|(n, code)| {
            format!("location = /{n} {{ content_by_lua_block {{ local ffi = require 'ffi' {code} }} }}\n")
        })
        .collect();
    let server = Server::start(
        "cpu",
        &format!(
            "lua_cpu_limit 50ms;
             init_worker_by_lua_block {{ require('jit.opt').start('hotloop=5') }}
             server {{ LISTEN {locations}
                 location /ok {{ content_by_lua_block {{ local s = 0 for i = 1, 1e5 do s = s + i end ngx.print(s) }} }} }}"
        ),
    );
    for (n, code) in codes.iter().enumerate() {
        for _ in 0..2 {
            let answer = server.answer(&format!("/{n}"));
            assert!(answer.starts_with("HTTP/1.1 500"), "{code}: {answer}\n{}", server.log());
            assert_eq!(server.get("/ok"), "5000050000", "after {code}");
        }
    }
    assert_eq!(server.log().matches("CPU time limit exceeded").count(), 2 * codes.len(), "{}", server.log());
    assert!(!server.log().contains("exited on signal"), "{}", server.log());
}

#[test]
fn interrupted_system_calls_go_on_unless_the_configuration_says_otherwise() {
    const FLAGS: &str = r#"
      server { LISTEN location / { content_by_lua_block {
        local ffi = require "ffi"
        ffi.cdef "int sigaction(int signum, const void *act, void *oldact);"
        -- Handler, mask and flags, as the C library of this system lays them out.
        local action = ffi.new("uint8_t[160]")
        assert(ffi.C.sigaction(15, nil, action) == 0)
        local flags = ffi.cast("uint32_t *", action + 136)[0]
        ngx.print(bit.band(flags, 0x10000000) ~= 0, " ", bit.band(flags, 4) ~= 0)
      } } }"#;
    let server = Server::start("restart-on", FLAGS);
    assert_eq!(server.get("/"), "true true");
    let server = Server::start("restart-off", &format!("lua_sa_restart off; {FLAGS}"));
    assert_eq!(server.get("/"), "false true");
}
