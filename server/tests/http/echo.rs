//! The `echo*`, `more_*_headers` and `set_*` families as a client sees them.

use super::{body, header, start, status};

/// The body with its chunks put together.
fn text(response: &str) -> String {
    let mut rest = body(response);
    if header(response, "transfer-encoding") != Some("chunked") {
        return rest.to_owned();
    }
    let mut out = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            break;
        }
        out.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    out
}

#[test]
fn echo_prints_sleeps_loops_and_jumps() {
    let s = start(
        "server { listen 8080; default_type text/plain;
           location /e { echo hello $arg_x; echo -n a b; echo; echo -- -n; echo_sleep 0.01; echo end; }
           location /l { echo_foreach_split , $arg_l; echo \"<$echo_it>\"; echo_end; echo done; }
           location /x { echo_exec /e x=1; } location /n { echo_exec @n; } location @n { echo $uri; }
           location /d { echo_duplicate 3 ab; echo_duplicate 1_0 x; }
           location /bad { echo_sleep x; }
           location /s { echo_status 404; echo gone; }
           location /b { echo_read_request_body; echo_request_body; echo \" $echo_request_body\"; }
           location /a { echo_before_body before; echo_after_body after; echo -n body; }
           location /i { echo inner; if ($arg_x) { echo chosen; } }
         }",
        &[],
    );
    let r = s.get("/e?x=5");
    assert_eq!(text(&r), "hello 5\na b\n-n\nend\n");
    assert_eq!(header(&r, "content-type"), Some("text/plain"));
    assert_eq!(text(&s.get("/l?l=a,b,,c")), "<a>\n<b>\n<c>\ndone\n");
    assert_eq!(text(&s.get("/l")), "done\n");
    assert_eq!(text(&s.get("/x")), "hello 1\na b\n-n\nend\n");
    assert_eq!(text(&s.get("/n")), "/n\n");
    assert_eq!(text(&s.get("/d")), "abababxxxxxxxxxx");
    assert_eq!(status(&s.get("/bad")), "400");
    assert!(s.error_log().contains("invalid sleep duration \"x\""));
    assert_eq!(status(&s.get("/s")), "404");
    let r = s.raw(b"POST /b HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
    assert_eq!(text(&r), "abc abc\n");
    assert_eq!(text(&s.get("/a")), "before\nbodyafter\n");
    assert_eq!((text(&s.get("/i")), text(&s.get("/i?x=1"))), ("inner\n".to_owned(), "chosen\n".to_owned()));
    // HTTP/1.0 knows no chunks.
    let r = s.raw(b"GET /d HTTP/1.0\r\n\r\n");
    assert_eq!((body(&r), header(&r, "connection")), ("abababxxxxxxxxxx", Some("close")));
}

#[test]
fn output_of_subrequests_stays_in_its_place() {
    let s = start(
        "server { listen 8080;
           location /p { echo a; echo_location /q x=1; echo b; echo_location_async /slow;
             echo_location_async /q; echo c; }
           location /q { echo \"q $args $echo_request_method $echo_incr\"; }
           location /slow { echo slow1; echo_sleep 0.05; echo slow2; }
           location /nest { echo_location_async /p; echo n; }
           location /post { echo_subrequest POST /body -q k=v -b text; echo z; }
           location /body { echo -n \"$echo_request_method $args $content_length \"; echo_request_body; }
           location /out { echo_location /../up; }
           location /lua { echo 1; echo_location /code; echo 3; }
           location /code { content_by_lua_block { ngx.sleep(0.01) ngx.say(2) } }
           location /cap { content_by_lua_block { ngx.print(ngx.location.capture('/p').body) } }
         }",
        &[],
    );
    let p = "a\nq x=1 GET 1\nb\nslow1\nslow2\nq  GET 2\nc\n";
    assert_eq!(text(&s.get("/p")), p);
    assert_eq!(text(&s.get("/nest")), format!("{p}n\n"));
    assert_eq!(text(&s.get("/post")), "POST k=v 4 textz\n");
    assert_eq!(text(&s.get("/lua")), "1\n2\n3\n");
    assert_eq!(text(&s.get("/cap")), p);
    s.get("/out");
    assert!(s.error_log().contains("unsafe URI \"/../up\" was detected"));
    let r = s.raw(b"HEAD /p HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(status(&r) == "200" && body(&r).is_empty(), "{r}");
}

#[test]
fn headers_more_sets_and_clears_in_both_directions() {
    let s = start(
        "more_set_headers 'X-All: 1';
         server { listen 8080; default_type text/plain;
           location /o { more_set_headers 'X-A: $arg_x' 'Server: me'; more_clear_headers Date; return 200 x; }
           location /s { more_set_headers -s '404 405' 'X-S: 1'; return 404; }
           location /t { more_set_headers -t 'text/plain' 'X-T: 1'; more_set_headers -t 'a/b' 'X-U: 1'; return 200 x; }
           location /w { more_set_headers 'W-1: a' 'W-2: b' 'V: c'; more_clear_headers 'W-*'; return 200 x; }
           location /i { more_set_input_headers 'X-A: a' 'Host: new'; more_clear_input_headers X-B 'Y*';
             more_set_input_headers -r 'X-C: c' 'X-D: d';
             echo \"$http_x_a|$host|$http_x_b|$http_y1|$http_x_c|$http_x_d\"; }
         }",
        &[],
    );
    let r = s.get("/o?x=7");
    assert_eq!((header(&r, "x-a"), header(&r, "server"), header(&r, "date")), (Some("7"), Some("me"), None));
    assert_eq!(header(&r, "x-all"), Some("1"));
    assert_eq!(header(&s.get("/s"), "x-s"), Some("1"));
    let r = s.get("/t");
    assert_eq!((header(&r, "x-t"), header(&r, "x-u")), (Some("1"), None));
    let r = s.get("/w");
    assert_eq!((header(&r, "w-1"), header(&r, "w-2"), header(&r, "v")), (None, None, Some("c")));
    let r = s.raw(b"GET /i HTTP/1.1\r\nHost: t\r\nX-B: 1\r\nY1: 1\r\nX-C: 1\r\nConnection: close\r\n\r\n");
    assert_eq!(text(&r), "a|new|||c|\n");
}

#[test]
fn set_family_makes_values() {
    let s = start(
        "server { listen 8080;
           location /v { set_unescape_uri $a $arg_a; set_escape_uri $b $a; set_quote_sql_str $c $a;
             set_quote_json_str $d $a; set_md5 $e $a; set_encode_base64 $f $a; set_decode_base64 $g $f;
             set_encode_base32 $h $a; set_decode_base32 $i $h; set_encode_hex $j $a; set_decode_hex $k $j;
             set $l ''; set_if_empty $l x; set_random $m 4 4; echo \"$b|$c|$d|$e|$f|$g|$h|$i|$j|$k|$l|$m\"; }
           location /r { set $r $arg_r; set_rotate $r 1 3; echo $r; }
           location /bad { set_random $r a 3; echo $r; }
         }",
        &[],
    );
    // "a b'" has four bytes: 61 20 62 27.
    let want = "a%20b'|'a b\\''|\"a b'\"|8e5b0d2c|YSBiJw==|a b'|c4g649o=|a b'|61206227|a b'|x|4\n";
    assert_eq!(text(&s.get("/v?a=a%20b%27")), want.replace("8e5b0d2c", &md5_of("a b'")));
    assert_eq!(
        (text(&s.get("/r")), text(&s.get("/r")), text(&s.get("/r?r=3"))),
        ("1\n".into(), "2\n".into(), "1\n".into())
    );
    assert_eq!(status(&s.get("/bad")), "500");
    assert!(s.error_log().contains("set_random: bad \"from\" argument: a"));
}

fn md5_of(text: &str) -> String {
    use md5::Digest;
    md5::Md5::digest(text).iter().map(|b| format!("{b:02x}")).collect()
}
