//! The configuration that `resty` runs its server with: one worker, nothing listening, the code in a timer.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::options::{Options, quoted};

/// Where the files of a run are.
pub struct Places {
    /// The prefix of the server.
    pub prefix: PathBuf,
    /// What `-e`, `-l` and `-j` say, if they say anything.
    pub inline: Option<PathBuf>,
}

impl Places {
    /// The file of a name in the configuration's folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.prefix.join("conf").join(name)
    }
}

/// A word of the configuration, in quotes.
fn word(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for b in bytes {
        if matches!(b, b'"' | b'\\' | b'$') {
            out.push(b'\\');
        }
        out.push(*b);
    }
    out.push(b'"');
    out
}

/// nginx.conf. `env` are the names of the environment. The error is a line for standard error.
pub fn nginx_conf(o: &Options, places: &Places, env: &[OsString]) -> Result<Vec<u8>, String> {
    let mut out: Vec<u8> = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        parts.iter().for_each(|p| out.extend_from_slice(p));
        out.push(b'\n');
    };
    for module in &o.modules {
        line(&[b"load_module ", module.as_bytes(), b";"]);
    }
    line(&[b"daemon off;\nmaster_process off;\nworker_processes 1;\npid logs/nginx.pid;"]);
    for name in env {
        line(&[b"env ", &word(name.as_bytes()), b";"]);
    }
    let level = o.log_level.as_deref().unwrap_or("warn");
    line(&[b"error_log stderr ", level.as_bytes(), b";"]);
    let connections = o.connections.as_deref().unwrap_or("64");
    line(&[b"events {\n    worker_connections ", connections.as_bytes(), b";\n}"]);
    for conf in &o.main_conf {
        line(&[conf.as_bytes()]);
    }
    for path in &o.main_include {
        line(&[b"include ", &word(included("main", path)?.as_os_str().as_bytes()), b";"]);
    }
    line(&[b"http {\n    access_log off;\n    lua_socket_log_errors off;\n    lua_regex_cache_max_entries 40960;"]);
    if !o.name_servers.is_empty() {
        let ipv6 = if o.ipv6 { "" } else { " ipv6=off" };
        line(&[b"    resolver ", o.name_servers.join(" ").as_bytes(), ipv6.as_bytes(), b";"]);
    }
    for dict in &o.dicts {
        line(&[b"    lua_shared_dict ", dict.as_bytes(), b";"]);
    }
    if !o.include_dirs.is_empty() {
        let (mut path, mut cpath) = (Vec::new(), Vec::new());
        for dir in &o.include_dirs {
            for pattern in ["?.ljbc", "?.lua", "?/init.ljbc", "?/init.lua"] {
                path.extend_from_slice(&[dir.as_bytes(), b"/", pattern.as_bytes(), b";"].concat());
            }
            cpath.extend_from_slice(&[dir.as_bytes(), b"/?.so;"].concat());
        }
        path.push(b';');
        cpath.push(b';');
        line(&[b"    lua_package_path ", &word(&path), b";"]);
        line(&[b"    lua_package_cpath ", &word(&cpath), b";"]);
    }
    for conf in &o.http_conf {
        line(&[b"    ", conf.as_bytes()]);
    }
    for path in &o.http_include {
        line(&[b"    include ", &word(included("http", path)?.as_os_str().as_bytes()), b";"]);
    }
    for (directive, name) in [("init_by_lua_file", "init.lua"), ("init_worker_by_lua_file", "run.lua")] {
        let path = word(places.file(name).as_os_str().as_bytes());
        line(&[b"    ", directive.as_bytes(), b" ", &path, b";"]);
    }
    line(&[b"}"]);
    Ok(out)
}

fn included(kind: &str, path: &OsString) -> Result<PathBuf, String> {
    let path = Path::new(path);
    if !path.is_file() {
        return Err(format!("ERROR: could not find {kind} include file '{}'\n", path.display()));
    }
    std::path::absolute(path).map_err(|e| format!("ERROR: {}: {e}\n", path.display()))
}

/// The Lua file that runs the code: where it is and `arg`, then what `run.lua` says.
pub fn run_lua(o: &Options, places: &Places, program: &[u8]) -> Vec<u8> {
    let mut out = b"local arg = {".to_vec();
    let mut entry = |n: i64, value: &[u8]| {
        out.extend_from_slice(format!("[{n}]=").as_bytes());
        out.extend_from_slice(&quoted(value));
        out.extend_from_slice(b",");
    };
    let inline = places.inline.as_ref().map(|p| p.as_os_str().as_bytes());
    let file = o.file.as_ref().map(|f| f.as_bytes());
    entry(0, file.or(inline).unwrap_or_default());
    for (n, arg) in o.args.iter().enumerate() {
        entry(n as i64 + 1, arg.as_bytes());
    }
    entry(-(o.before_args as i64), program);
    out.extend_from_slice(b"} rawset(_G, 'arg', arg) local inline, file = ");
    let or_nil = |text: Option<&[u8]>| text.map_or(b"nil".to_vec(), quoted);
    out.extend_from_slice(&or_nil(inline));
    out.extend_from_slice(b", ");
    out.extend_from_slice(&or_nil(file));
    out.push(b'\n');
    out.extend_from_slice(include_bytes!("run.lua"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_asked_for_is_in_the_configuration() {
        let args = [
            "-I",
            "a b",
            "-c",
            "7",
            "--shdict",
            "d 1m",
            "--ns",
            "9.9.9.9",
            "--http-conf",
            "x 1;",
            "--main-conf",
            "y 2;",
            "--errlog-level",
            "info",
            "--load-module",
            "m.so",
            "-e",
            "1",
        ];
        let o = Options::parse(&args.map(OsString::from)).expect("is right");
        let places = Places { prefix: "/p".into(), inline: None };
        let text = nginx_conf(&o, &places, &["A$B".into()]).expect("no files are asked for");
        let text = String::from_utf8(text).expect("is text");
        for part in [
            "load_module m.so;\n",
            "env \"A\\$B\";\n",
            "error_log stderr info;\n",
            "worker_connections 7;\n",
            "\ny 2;\n",
            "resolver 9.9.9.9 ipv6=off;\n",
            "lua_shared_dict d 1m;\n",
            "    x 1;\n",
            "lua_package_path \"a b/?.ljbc;a b/?.lua;a b/?/init.ljbc;a b/?/init.lua;;\";\n",
            "init_by_lua_file \"/p/conf/init.lua\";\n",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        let o = Options { main_include: vec!["/none".into()], ..Options::default() };
        let e = nginx_conf(&o, &places, &[]).expect_err("it is not there");
        assert_eq!(e, "ERROR: could not find main include file '/none'\n");
    }
}
