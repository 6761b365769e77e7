//! Where `proxy_pass` sends a request: a group of the configuration, or one made for a name in a variable.

use std::net::SocketAddr;
use std::rc::Rc;

use super::create::Destination;
use super::proxy::with_info;
use super::resolvers::Resolvers;
use super::{Group, Upstreams};
use crate::conf::model::Level;
use crate::conf::proxy::{ProxyPass, ProxyTarget, scheme_of};
use crate::conf::upstream::PeerAddr;
use crate::conf::url;
use crate::cosocket::resolver::Names;
use crate::cosocket::trace::Trace;
use crate::request::Request;
use crate::request::upstream::UpstreamInfo;

/// The group and path that the request goes to. The error is a status.
pub(super) async fn destination(
    ups: &Rc<Upstreams>,
    names: &Resolvers,
    req: &Rc<Request>,
    pass: &ProxyPass,
) -> Result<(Rc<Group>, Destination), u16> {
    let script = match &pass.target {
        ProxyTarget::Fixed { upstream, host, port, ssl, uri } => {
            with_info(req, |info| {
                info.begin_group();
                info.proxy_host = host.clone();
                info.proxy_port = *port;
                info.ssl = *ssl;
            });
            let to = Destination { host: host.clone(), ssl: *ssl, uri: uri.clone() };
            return Ok((ups.get(*upstream).clone(), to));
        }
        ProxyTarget::Script(script) => script,
    };
    with_info(req, UpstreamInfo::begin_group);
    let text = req.eval(script);
    let Some((rest, usual_port, ssl)) = scheme_of(&text).filter(|(rest, ..)| !rest.is_empty()) else {
        let line = [b"invalid URL prefix in \"", &text[..], b"\""].concat();
        req.log(Level::Error, &line);
        return Err(500);
    };
    let url = url::parse(rest, usual_port).map_err(|why| {
        let line = [why.as_bytes(), b" in upstream \"", rest, b"\""].concat();
        req.log(Level::Error, &line);
        500u16
    })?;
    let mut uri = url.uri.clone();
    if uri.first() == Some(&b'?') {
        uri.insert(0, b'/');
    }
    let to = Destination { host: url.host_header(usual_port).into_bytes().into(), ssl, uri: uri.into() };
    with_info(req, |info| {
        info.proxy_host = to.host.clone();
        info.ssl = ssl;
        info.proxy_port = if url.is_unix() { 0 } else { url.port };
    });
    let port = url.port_text.as_ref().map(|_| url.port);
    if let Some(group) = ups.find(&url.host, port).filter(|g| g.conf.explicit || port.is_some()) {
        return Ok((group.clone(), to));
    }
    let addrs = match &url.addr {
        Some(addr) => vec![addr.clone()],
        None => resolve(names, req, &url.host, url.port).await?,
    };
    Ok((ups.passing(&url.host, addrs), to))
}

/// The addresses of a name, asked for the request.
async fn resolve(
    resolvers: &Resolvers,
    req: &Rc<Request>,
    host: &str,
    port: u16,
) -> Result<Vec<PeerAddr>, u16> {
    let (line, timeout_ms) = {
        let loc = req.location();
        (loc.resolver.clone(), loc.resolver_timeout)
    };
    let Some(line) = line else {
        req.log(Level::Error, format!("no resolver defined to resolve {host}").as_bytes());
        return Err(502);
    };
    let names = Names::Resolver(resolvers.of(&line), timeout_ms);
    match names.lookup(host, &Trace::default()).await {
        Ok(found) => Ok(found.into_iter().map(|ip| PeerAddr::Inet(SocketAddr::new(ip, port))).collect()),
        Err(why) => {
            req.log(Level::Error, why.as_bytes());
            Err(502)
        }
    }
}
