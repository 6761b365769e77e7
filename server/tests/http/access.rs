//! Who is let in, how fast, and under which address.

use super::{body, header, start, status};

fn get_with(s: &super::Server, path: &str, headers: &str) -> String {
    s.raw(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

#[test]
fn addresses_passwords_and_subrequests_decide() {
    // bob:secret, in three kinds of hash.
    let users = "# people\nbob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\nal:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=:note\n\
                 old:$2y$05$abcdefghijklmnopqrstuv\n";
    let s = start(
        "server { listen 8080;
           location /deny { deny 127.0.0.0/8; allow all; return 200 x; }
           location /allow { allow 127.0.0.1; deny all; echo ok; }
           location /d2 { deny all; echo x; }
           location /a2 { allow 127.0.0.1; deny all; echo ok; }
           location /pw { auth_basic realm; auth_basic_user_file users; echo $remote_user; }
           location /any { satisfy any; deny all; auth_basic r; auth_basic_user_file users; echo any; }
           location /lua { satisfy any; deny all; access_by_lua_block { if not ngx.var.arg_ok then ngx.exit(403) end }
             echo lua; }
           location /ar { auth_request /auth; auth_request_set $who $sent_http_x_who; echo $who; }
           location /auth { internal; more_set_headers 'X-Who: bob'; return 204; }
           location /ar401 { auth_request /no401; echo x; }
           location /no401 { more_set_headers 'WWW-Authenticate: Foo'; return 401; }
           location /ar500 { auth_request /no404; echo x; } location /no404 { return 404; }
         }",
        &[("users", users)],
    );
    // `return` comes before the access phase.
    assert_eq!(status(&s.get("/deny")), "200");
    assert_eq!((status(&s.get("/d2")), status(&s.get("/a2"))), ("403", "200"));
    assert!(s.error_log().contains("access forbidden by rule"));
    let r = s.get("/pw");
    assert_eq!((status(&r), header(&r, "www-authenticate")), ("401", Some("Basic realm=\"realm\"")));
    let auth = |pair: &str| {
        let encoded = base64_simd::STANDARD.encode_to_string(pair);
        format!("Authorization: Basic {encoded}\r\n")
    };
    assert!(body(&get_with(&s, "/pw", &auth("bob:secret"))).contains("bob"));
    assert_eq!(status(&get_with(&s, "/pw", &auth("al:secret"))), "200");
    assert_eq!(status(&get_with(&s, "/pw", &auth("bob:x"))), "401");
    assert_eq!(status(&get_with(&s, "/pw", &auth("eve:x"))), "401");
    assert_eq!(status(&get_with(&s, "/pw", &auth("old:x"))), "500");
    let log = s.error_log();
    assert!(log.contains("user \"bob\": password mismatch"), "{log}");
    assert!(log.contains("user \"eve\" was not found in "), "{log}");
    assert!(log.contains("user \"old\": the kind of its password hash is not supported"), "{log}");
    assert_eq!(status(&s.get("/any")), "401");
    assert_eq!(status(&get_with(&s, "/any", &auth("bob:secret"))), "200");
    assert_eq!((status(&s.get("/lua")), status(&s.get("/lua?ok=1"))), ("403", "200"));
    assert!(body(&s.get("/ar")).contains("bob"));
    let r = s.get("/ar401");
    assert_eq!((status(&r), header(&r, "www-authenticate")), ("401", Some("Foo")));
    assert_eq!(status(&s.get("/ar500")), "500");
    assert!(s.error_log().contains("auth request unexpected status: 404"));
}

#[test]
fn limits_refuse_delay_and_give_back() {
    let s = start(
        "limit_req_zone $arg_k zone=slow:64k rate=1r/m; limit_req_zone $arg_k zone=fast:64k rate=1r/s;
         limit_conn_zone $arg_k zone=one:64k;
         server { listen 8080;
           location /r { limit_req zone=slow burst=1 nodelay; limit_req_status 429; echo $limit_req_status; }
           location /d { limit_req zone=fast burst=9; echo $limit_req_status; }
           location /dry { limit_req zone=slow; limit_req_dry_run on; echo $limit_req_status; }
           location /c { limit_conn one 1; echo_sleep 0.2; echo $limit_conn_status; }
         }",
        &[],
    );
    let codes: Vec<String> = (0..3).map(|_| status(&s.get("/r?k=a")).to_owned()).collect();
    assert_eq!(codes, ["200", "200", "429"]);
    assert!(
        s.error_log().contains("limiting requests, excess: ") && s.error_log().contains("by zone \"slow\"")
    );
    assert_eq!(status(&s.get("/r?k=b")), "200");
    assert!(body(&s.get("/r")).contains('\n'), "an empty key is not counted");
    let begin = std::time::Instant::now();
    let last = (0..2).map(|_| s.get("/d?k=a")).last().unwrap();
    assert!(body(&last).contains("DELAYED") && begin.elapsed().as_millis() >= 900, "{last}");
    s.get("/dry?k=z");
    assert!(body(&s.get("/dry?k=z")).contains("REJECTED_DRY_RUN"));
    let codes: Vec<String> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..2).map(|_| scope.spawn(|| status(&s.get("/c?k=a")).to_owned())).collect();
        all.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(codes.contains(&"200".to_owned()) && codes.contains(&"503".to_owned()), "{codes:?}");
    assert!(s.error_log().contains("limiting connections by zone \"one\""));
    // The place is free again.
    assert_eq!(status(&s.get("/c?k=a")), "200");
}

#[test]
fn real_addresses_come_from_trusted_proxies_only() {
    let s = start(
        "server { listen 8080;
           location /x { set_real_ip_from 127.0.0.1; set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For;
             real_ip_recursive on; echo \"$remote_addr $realip_remote_addr\"; }
           location /l { set_real_ip_from 127.0.0.1; real_ip_header X-Forwarded-For; echo $remote_addr; }
           location /n { set_real_ip_from 10.0.0.1; echo $remote_addr; }
           location /r { set_real_ip_from 127.0.0.1; echo $remote_addr; }
         }",
        &[],
    );
    let forwarded = "X-Forwarded-For: 1.2.3.4, 10.0.0.2\r\n";
    assert!(body(&get_with(&s, "/x", forwarded)).contains("1.2.3.4 127.0.0.1"));
    assert!(body(&get_with(&s, "/l", forwarded)).contains("10.0.0.2"));
    assert!(body(&get_with(&s, "/n", "X-Real-IP: 9.9.9.9\r\n")).contains("127.0.0.1"));
    assert!(body(&get_with(&s, "/r", "X-Real-IP: 9.9.9.9\r\n")).contains("9.9.9.9"));
}

#[test]
fn referers_and_secure_links_guard_content() {
    use md5::Digest;
    let s = start(
        "server { listen 8080; server_name mine.org *.mine.net;
           location /r { valid_referers none blocked server_names *.ok.com fixed.com/dir ~\\.re\\.;
             return 200 \"[$invalid_referer]\"; }
           location /any { return 200 \"[$invalid_referer]\"; }
           location /s { secure_link $arg_md5,$arg_e; secure_link_md5 \"$uri$arg_e key\";
             return 200 \"[$secure_link|$secure_link_expires]\"; }
           location /p/ { secure_link_secret word; return 200 \"[$secure_link]\"; }
         }",
        &[],
    );
    let ask =
        |referer: &str| {
            let line = format!("Referer: {referer}\r\n");
            body(&s.raw(
                format!("GET /r HTTP/1.1\r\nHost: mine.org\r\nConnection: close\r\n{line}\r\n").as_bytes(),
            ))
            .to_owned()
        };
    for good in [
        "masked",
        "http://mine.org/x",
        "https://a.mine.net:81/",
        "http://www.ok.com/",
        "http://fixed.com/dir/x",
        "http://a.re.b/",
    ] {
        assert_eq!(ask(good), "[]", "{good}");
    }
    for bad in ["http://ok.com/", "http://fixed.com/other", "http://evil.org/mine.org"] {
        assert_eq!(ask(bad), "[1]", "{bad}");
    }
    assert_eq!((body(&s.get("/r")), body(&s.get("/any"))), ("[]", "[]"));
    let sign = |text: &str| base64_simd::URL_SAFE_NO_PAD.encode_to_string(&md5::Md5::digest(text)[..]);
    let link = |time: &str, of: &str| body(&s.get(&format!("/s?md5={}&e={time}", sign(of)))).to_owned();
    assert_eq!(link("4000000000", "/s4000000000 key"), "[1|4000000000]");
    assert_eq!(link("1", "/s1 key"), "[0|1]");
    assert_eq!(link("4000000000", "/s4000000001 key"), "[|]");
    let hash: String = md5::Md5::digest("a/bword").iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(body(&s.get(&format!("/p/{hash}/a/b"))), "[a/b]");
    assert_eq!(body(&s.get(&format!("/p/{hash}/a/c"))), "[]");
}

#[test]
fn copies_of_a_request_go_elsewhere_and_nobody_waits_for_them() {
    let s = start(
        "lua_shared_dict seen 100k; log_format f '$uri $status'; access_log logs/access.log f;
         server { listen 8080; client_body_buffer_size 16; client_header_buffer_size 128;
             location /with { mirror /copy; mirror /slow; content_by_lua_block { ngx.req.read_body() ngx.print('answer') } }
             location /without { mirror /copy; mirror_request_body off; location /without/off { mirror off; return 200 off; }
                 content_by_lua_block { ngx.print('answer') } }
             location /copy { internal; content_by_lua_block {
                 ngx.req.read_body()
                 local name = ngx.req.get_body_file()
                 local body = name and io.open(name):read('*a') or ngx.req.get_body_data() or ''
                 ngx.shared.seen:rpush('copies', table.concat({ngx.var.request_uri, ngx.req.get_method(), ngx.var.args or '',
                     #body, ngx.var.remote_addr}, ' '))
                 ngx.say(('x'):rep(100000)) } }
             location /slow { internal; content_by_lua_block { ngx.sleep(30) } }
             location /seen { content_by_lua_block { ngx.print(ngx.shared.seen:lpop('copies') or '') } } }",
        &[],
    );
    let copy = || {
        let begun = std::time::Instant::now();
        loop {
            let answer = s.raw(b"GET /seen HTTP/1.0\r\n\r\n");
            if !body(&answer).is_empty() {
                return body(&answer).to_owned();
            }
            assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{}", s.error_log());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    let data = "a".repeat(500);
    let post = format!("POST /with?a=1 HTTP/1.0\r\nContent-Length: 500\r\n\r\n{data}");
    assert_eq!(body(&s.raw(post.as_bytes())), "answer");
    assert_eq!(copy(), "/with?a=1 POST a=1 500 127.0.0.1");
    assert_eq!(body(&s.raw(b"GET /without HTTP/1.0\r\n\r\n")), "answer");
    assert_eq!(copy(), "/without GET  0 127.0.0.1");
    assert_eq!(body(&s.raw(b"GET /without/off HTTP/1.0\r\n\r\n")), "off");
    assert_eq!(body(&s.raw(b"GET /seen HTTP/1.0\r\n\r\n")), "");
}

#[test]
fn a_proxy_in_front_says_who_the_client_is() {
    let s = start(
        "log_format p '$proxy_protocol_addr';
         server { listen 8080 proxy_protocol; client_header_timeout 300ms;
           location / { echo \"$proxy_protocol_addr|$proxy_protocol_port|$proxy_protocol_server_addr|$proxy_protocol_server_port|$remote_addr|$realip_remote_addr\"; }
           location /real { set_real_ip_from 127.0.0.0/8; real_ip_header proxy_protocol;
             echo \"$remote_addr:$remote_port $realip_remote_addr\"; }
           location /tlv { echo \"$proxy_protocol_tlv_alpn|$proxy_protocol_tlv_0xe0|$proxy_protocol_tlv_ssl_cn|$proxy_protocol_tlv_ssl_verify\"; }
           location /odd { echo \"<$proxy_protocol_tlv_nothing>\"; }
         }",
        &[],
    );
    let request =
        |path: &str| format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").into_bytes();
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 35646 80\r\n";
    let r = s.raw(&[line, &request("/")[..]].concat());
    assert!(r.contains("192.0.2.7|35646|198.51.100.1|80|127.0.0.1|127.0.0.1\n"), "{r}");
    let r = s.raw(&[line, &request("/real")[..]].concat());
    assert!(r.contains("192.0.2.7:35646 127.0.0.1\n"), "{r}");
    let r = s.raw(&[b"PROXY UNKNOWN\r\n", &request("/")[..]].concat());
    assert!(r.contains("||||127.0.0.1|127.0.0.1\n"), "{r}");
    // Version 2, with entries; a connection keeps what was said for all its requests.
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0".to_vec();
    let mut rest = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 15], &[2], &[0, 5, 0, 6]].concat();
    rest.extend_from_slice(b"\x01\0\x02h2\xe0\0\x01x\x20\0\x09\x01\0\0\0\x02\x22\0\x01c");
    header.push(rest.len() as u8);
    header.extend_from_slice(&rest);
    let two = [&header, &b"GET /tlv HTTP/1.1\r\nHost: t\r\n\r\n"[..], &request("/")].concat();
    let r = s.raw(&two);
    assert!(r.contains("h2|x|c|2\n"), "{r}");
    assert!(r.contains("2001:db8::1|5|::2|6|127.0.0.1|127.0.0.1\n"), "{r}");
    // In pieces.
    use std::io::{Read, Write};
    let mut c = s.connect();
    for piece in [&header[..5], &header[5..30], &header[30..]] {
        c.write_all(piece).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    c.write_all(&request("/tlv")).unwrap();
    let mut r = String::new();
    c.read_to_string(&mut r).unwrap();
    assert!(r.contains("h2|x|c|2\n"), "{r}");
    // What is none ends the connection without a word; so does one that never comes to its end.
    assert_eq!(s.raw(&request("/")), "");
    assert!(s.error_log().contains("[error]"), "{}", s.error_log());
    let log = s.error_log();
    assert!(
        log.contains(
            "broken header: \"GET / HTTP/1.1\" while reading PROXY protocol, client: 127.0.0.1, server: "
        ),
        "{log}"
    );
    let mut c = s.connect();
    c.write_all(b"PROXY TCP4").unwrap();
    let mut r = String::new();
    c.read_to_string(&mut r).unwrap();
    assert_eq!(r, "");
    let r = s.raw(&[line, &request("/odd")[..]].concat());
    assert!(r.contains("<>\n"), "{r}");
    let r = s.raw(&[&header, &request("/odd")[..]].concat());
    assert!(r.contains("<>\n"), "{r}");
    assert!(s.error_log().contains("unknown PROXY protocol TLV \"nothing\""));
}
