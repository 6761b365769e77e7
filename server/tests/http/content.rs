//! Files and what is done to responses on their way: ranges, conditions, compression, replacements, logs.

use std::io::Read;

use super::{body, header, start, status};

fn get_with(s: &super::Server, path: &str, headers: &str) -> String {
    s.raw(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n").as_bytes())
}

#[test]
fn parts_and_conditions() {
    let s = start("server { listen 8080; root html; }", &[("html/a", "0123456789abcdefghij")]);
    let r = get_with(&s, "/a", "Range: bytes=5-8\r\n");
    assert_eq!((status(&r), body(&r), header(&r, "content-range")), ("206", "5678", Some("bytes 5-8/20")));
    assert_eq!(body(&get_with(&s, "/a", "Range: bytes=-3\r\n")), "hij");
    let r = get_with(&s, "/a", "Range: bytes=30-\r\n");
    assert_eq!((status(&r), header(&r, "content-range")), ("416", Some("bytes */20")));
    for order in ["0-1,18-19", "18-19,0-1"] {
        let r = get_with(&s, "/a", &format!("Range: bytes={order}\r\n"));
        assert_eq!(status(&r), "206");
        assert!(r.contains("Content-Range: bytes 0-1/20\r\n\r\n01\r\n--"), "{r}");
        assert!(r.contains("Content-Range: bytes 18-19/20\r\n\r\nij\r\n--"), "{r}");
        let length: usize = header(&r, "content-length").unwrap().parse().unwrap();
        assert_eq!(r.len() - r.find("\r\n\r\n").unwrap() - 4, length, "{r}");
    }
    let etag = header(&s.get("/a"), "etag").unwrap().to_owned();
    for (headers, want) in [
        (format!("If-Match: {etag}\r\n"), "200"),
        ("If-Match: \"x\"\r\n".to_owned(), "412"),
        ("If-Unmodified-Since: Thu, 01 Jan 1998 00:00:00 GMT\r\n".to_owned(), "412"),
        (format!("If-None-Match: W/{etag}\r\n"), "304"),
        (format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n"), "206"),
        ("Range: bytes=0-1\r\nIf-Range: \"x\"\r\n".to_owned(), "200"),
    ] {
        assert_eq!(status(&get_with(&s, "/a", &headers)), want, "{headers}");
    }
}

/// The body without chunks, as bytes.
fn bytes_of(s: &super::Server, path: &str, headers: &str) -> (String, Vec<u8>) {
    use std::io::Write;
    let mut c = s.connect();
    c.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n").as_bytes())
        .unwrap();
    let mut all = Vec::new();
    c.read_to_end(&mut all).unwrap();
    let cut = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&all[..cut + 4]).into_owned();
    let mut rest = &all[cut + 4..];
    if header(&head, "transfer-encoding") != Some("chunked") {
        return (head, rest.to_vec());
    }
    let mut out = Vec::new();
    loop {
        let n = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..n]).unwrap(), 16).unwrap();
        if size == 0 {
            return (head, out);
        }
        out.extend_from_slice(&rest[n + 2..n + 2 + size]);
        rest = &rest[n + 2 + size + 2..];
    }
}

fn unzipped(data: &[u8]) -> String {
    let mut out = String::new();
    flate2::read::GzDecoder::new(data).read_to_string(&mut out).expect("whole and sound");
    out
}

fn zipped(text: &str) -> Vec<u8> {
    use std::io::Write;
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(text.as_bytes()).unwrap();
    e.finish().unwrap()
}

#[test]
fn compression_both_ways() {
    let s = start(
        "server { listen 8080; root html; default_type text/html; gzip_vary on;
           location /z { gzip on; gzip_min_length 5; add_header ETag '\"v\"'; return 200 'text that is long'; }
           location /short { gzip on; return 200 'tiny'; }
           location /e { gzip on; gzip_min_length 0; echo a; echo_flush; echo_location /sub; echo c; }
           location /sub { echo b; }
           location /static { gzip_static on; alias html/f; }
           location /always { gunzip on; gzip_static always; alias html/f; }
         }",
        &[("html/f", "plain")],
    );
    std::fs::write(s.dir.join("html/f.gz"), zipped("from the zipped file")).unwrap();
    let (head, data) = bytes_of(&s, "/z", "Accept-Encoding: gzip\r\n");
    assert_eq!(header(&head, "content-encoding"), Some("gzip"), "{head}");
    assert_eq!((header(&head, "etag"), header(&head, "vary")), (Some("W/\"v\""), Some("Accept-Encoding")));
    assert_eq!(unzipped(&data), "text that is long");
    let (head, data) = bytes_of(&s, "/z", "Accept-Encoding: gzip;q=0\r\n");
    assert_eq!((header(&head, "content-encoding"), &data[..]), (None, &b"text that is long"[..]));
    assert_eq!(bytes_of(&s, "/short", "Accept-Encoding: gzip\r\n").1, b"tiny");
    assert_eq!(unzipped(&bytes_of(&s, "/e", "Accept-Encoding: gzip\r\n").1), "a\nb\nc\n");
    assert_eq!(unzipped(&bytes_of(&s, "/static", "Accept-Encoding: gzip\r\n").1), "from the zipped file");
    assert_eq!(bytes_of(&s, "/static", "").1, b"plain");
    let (head, data) = bytes_of(&s, "/always", "");
    assert_eq!((header(&head, "content-encoding"), &data[..]), (None, &b"from the zipped file"[..]));
}

#[test]
fn replacements_charsets_dates_and_trailers() {
    let s = start(
        "server { listen 8080; default_type text/html;
           location /sub { sub_filter hello BYE; sub_filter 'World' '$uri'; echo 'Hello hello world'; }
           location /all { sub_filter ab x; sub_filter_once off; echo -n a; echo -n b; echo abAB; }
           location /c { charset utf-8; return 200 x; }
           location /e { expires 1h; return 200 x; } location /p { expires -1; return 200 x; }
           location /max { expires max; return 404; }
           location /t { add_trailer X-Sum $status; echo body; }
         }",
        &[],
    );
    let text = |path: &str| String::from_utf8(bytes_of(&s, path, "").1).unwrap();
    assert_eq!(text("/sub"), "BYE hello /sub\n");
    assert_eq!(text("/all"), "xxx\n");
    assert_eq!(header(&s.get("/c"), "content-type"), Some("text/html; charset=utf-8"));
    let r = s.get("/e");
    assert_eq!(header(&r, "cache-control"), Some("max-age=3600"));
    assert!(header(&r, "expires").unwrap().ends_with(" GMT"));
    assert_eq!(header(&s.get("/p"), "cache-control"), Some("no-cache"));
    assert_eq!(header(&s.get("/max"), "expires"), None);
    assert!(s.get("/t").ends_with("0\r\nX-Sum: 200\r\n\r\n"));
}

#[test]
fn directories_are_listed() {
    let s = start(
        "server { listen 8080; root html; location /d/ { autoindex on; }
           location /j/ { autoindex on; autoindex_format json; alias html/d/; } }",
        &[("html/d/b<.txt", "12345"), ("html/d/sub/x", ""), ("html/d/.hidden", "")],
    );
    let page = s.get("/d/");
    assert!(
        page.contains("<h1>Index of /d/</h1><hr><pre><a href=\"../\">../</a>\r\n<a href=\"sub/\">sub/</a>"),
        "{page}"
    );
    assert!(page.contains("<a href=\"b%3C.txt\">b&lt;.txt</a>") && !page.contains("hidden"), "{page}");
    assert!(s.get("/j/").contains("{ \"name\":\"b<.txt\", \"type\":\"file\", \"mtime\":\""));
}

#[test]
fn variables_by_address_and_by_chance() {
    let s = start(
        "geo $arg_ip $net { default none; 10.0.0.0/8 ten; 10.1.0.0/16 inner; 2001:db8::/32 six; }
         geo $arg_ip $range { ranges; 1.0.0.0-1.0.0.9 low; }
         split_clients $arg_k $part { 50% a; * b; }
         server { listen 8080; location / { return 200 \"$net|$range|$part\"; } }",
        &[],
    );
    let net = |ip: &str| body(&s.get(&format!("/?ip={ip}"))).split('|').next().unwrap().to_owned();
    let of = |ips: [&str; 4]| ips.map(net);
    assert_eq!(of(["10.2.3.4", "10.1.0.9", "2001:db8::1", "8.8.8.8"]), ["ten", "inner", "six", "none"]);
    assert!(body(&s.get("/?ip=1.0.0.9")).contains("|low|") && body(&s.get("/?ip=1.0.1.0")).contains("||"));
    let halves = (0..200).filter(|n| body(&s.get(&format!("/?k={n}"))).ends_with('a')).count();
    assert!((70..130).contains(&halves), "{halves}");
}

#[test]
fn rate_limit_holds_a_response_back() {
    let s = start(
        "server { listen 8080; location /f { limit_rate 40k; root html; } location /v { set $limit_rate 4k; echo $limit_rate; } }",
        &[("html/f", &"x".repeat(100_000))],
    );
    let begin = std::time::Instant::now();
    let r = s.get("/f");
    assert_eq!(body(&r).len(), 100_000);
    assert!(begin.elapsed().as_millis() > 1500, "{:?}", begin.elapsed());
    assert!(body(&s.get("/v")).contains("4096"));
}

#[test]
fn bodies_go_to_files_when_asked() {
    let s = start(
        "server { listen 8080; client_body_temp_path bodies 1 2;
           location /on { client_body_in_file_only on; echo_read_request_body; echo $request_body_file; }
           location /clean { client_body_in_file_only clean; echo_read_request_body; echo_request_body; }
         }",
        &[],
    );
    let post = |path: &str| {
        let head = "HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody";
        s.raw(format!("POST {path} {head}").as_bytes())
    };
    let r = post("/on");
    let path = body(&r).lines().nth(1).unwrap().trim().to_owned();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "body", "{r}");
    let levels: Vec<usize> = path.rsplit('/').map(str::len).take(3).collect();
    assert_eq!(levels[1..], [2, 1], "{path}");
    assert!(s.error_log().contains("a client request body is buffered to a temporary file "));
    assert!(post("/clean").contains("body"));
}

#[test]
fn access_logs_to_variable_paths_gzip_and_syslog() {
    let socket = std::env::temp_dir().join(format!("moonlit-syslog-{}", std::process::id()));
    let _ = std::fs::remove_file(&socket);
    let server = std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
    server.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let http = format!(
        "log_format l '$request_method $uri';
         server {{ listen 8080;
           location /v {{ access_log logs/$arg_n.log l; return 200 x; }}
           location /z {{ access_log logs/z.gz l gzip=5 buffer=64; return 200 x; }}
           location /s {{ access_log syslog:server=unix:{},facility=local3,tag=tag1,nohostname l; return 200 x; }}
         }}",
        socket.display()
    );
    let s = start(&http, &[]);
    s.get("/v?n=one");
    s.get("/v?n=two");
    let read = |name: &str| std::fs::read_to_string(s.dir.join("logs").join(name)).unwrap_or_default();
    assert_eq!((read("one.log"), read("two.log")), ("GET /v\n".to_owned(), "GET /v\n".to_owned()));
    for _ in 0..20 {
        s.get("/z");
    }
    let mut text = String::new();
    let packed = std::fs::read(s.dir.join("logs/z.gz")).unwrap();
    flate2::read::MultiGzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    assert!(text.starts_with("GET /z\nGET /z\n"), "{text}");
    s.get("/s");
    let mut packet = [0; 512];
    let n = server.recv(&mut packet).unwrap();
    let line = String::from_utf8_lossy(&packet[..n]).into_owned();
    assert!(line.starts_with("<158>") && line.ends_with(" tag1: GET /s"), "{line}");
    let _ = std::fs::remove_file(&socket);
}
