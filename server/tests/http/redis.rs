//! The unmodified lua-resty-redis against a real Redis. Skipped aloud where one of them is missing.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use super::{body, start};

struct Redis(Child, PathBuf);

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        let _ = std::fs::remove_file(&self.1);
    }
}

fn library() -> Option<String> {
    let named = std::env::var("MOONLIT_RESTY_REDIS").ok();
    let places = ["/usr/share/lua/5.1/nginx/redis.lua", "/usr/local/openresty/lualib/resty/redis.lua"];
    let path =
        named.into_iter().chain(places.map(str::to_owned)).find(|p| std::path::Path::new(p).is_file())?;
    std::fs::read_to_string(path).ok()
}

fn redis() -> Option<Redis> {
    let path = std::env::temp_dir().join(format!("moonlit-redis-{}.sock", std::process::id()));
    let child = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .ok()?;
    let server = Redis(child, path);
    for _ in 0..200 {
        if std::os::unix::net::UnixStream::connect(&server.1).is_ok() {
            return Some(server);
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    None
}

#[test]
fn lua_resty_redis_works_unmodified() {
    let (Some(lib), Some(server)) = (library(), redis()) else {
        eprintln!("SKIPPED: lua-resty-redis or redis-server is not installed");
        return;
    };
    let http = format!(
        "lua_package_path \"$prefix/lib/?.lua;;\"; server {{ listen 8080; location / {{ content_by_lua_block {{
           local redis = require 'redis'
           local red = redis:new()
           red:set_timeouts(1000, 1000, 1000)
           local ok, err = red:connect('unix:{}')
           if not ok then ngx.print('connect: ', err) return end
           ngx.print(red:set('k', 'v\\r\\n2'), ' ', red:get('k'), ' ', red:get('none') == ngx.null, ' ')
           red:init_pipeline()
           red:set('n', 1) red:incr('n') red:get('n')
           local res = red:commit_pipeline()
           ngx.print(#res, ' ', res[3], ' ')
           red:hmset('h', {{user = 'u', rate = 5}})
           local h = red:array_to_hash(red:hgetall('h'))
           ngx.print(h.user, h.rate, ' ')
           local r, err = red:eval('return redis.error_reply(\"MY bad\")', 0)
           ngx.print(r, ' ', err, ' ', red:get_reused_times(), ' ')
           ngx.print(red:set_keepalive(10000, 10))
         }} }} }}",
        server.1.display()
    );
    let s = start(&http, &[("lib/redis.lua", &lib)]);
    let r = s.raw(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(body(&r), "OK v\r\n2 true 3 2 u5 false MY bad 0 1", "{}", s.error_log());
    assert!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")).ends_with("MY bad 1 1"));
}
