//! TLS over a cosocket's connection.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use socket2::SockRef;

use super::error::SockError;
use super::stream::Stream;
use super::tcp::{OpTimer, Socket};
use crate::tls::client::{self, Client, Refused};
use crate::tls::errors;
use crate::tls::sessions::Session;

/// An encrypted stream.
type Encrypted = client::Encrypted<Box<dyn Stream>>;

impl Stream for Encrypted {
    fn with_socket(&self, f: &mut dyn FnMut(SockRef<'_>)) -> bool {
        self.io.get_ref().0.with_socket(f)
    }

    fn session(&self) -> Option<&Arc<Session>> {
        Some(&self.session)
    }
}

/// What a handshake is asked for.
pub struct Asked {
    /// Who speaks.
    pub client: Arc<Client>,
    /// The server's name.
    pub name: Option<String>,
    /// What to go on with.
    pub session: Option<Arc<Session>>,
    /// Whether the server must be trusted.
    pub verify: bool,
}

/// Why a handshake failed.
#[derive(Debug)]
pub enum TlsError {
    /// The connection was not there, is in use, or took too long.
    Socket(SockError),
    /// The server does not speak as it should, or refused.
    Failed(String),
    /// It is not to be trusted.
    Refused(Refused),
}

type Shaking = Pin<Box<dyn Future<Output = Result<Encrypted, TlsError>>>>;

/// A handshake under way.
pub struct TlsHandshake {
    sock: Socket,
    step: Option<Result<Arc<Session>, TlsError>>,
    shaking: Option<Shaking>,
    timer: OpTimer,
}

impl Socket {
    /// The session of the connection, when it is encrypted.
    pub fn session(&self) -> Result<Option<Arc<Session>>, SockError> {
        let st = self.0.borrow();
        st.usable()?;
        Ok(st.io.as_ref().and_then(|io| io.session().cloned()))
    }

    /// Encrypts the connection from here on. One that is encrypted stays as it is.
    pub fn start_tls(&self, asked: Asked) -> TlsHandshake {
        let mut st = self.0.borrow_mut();
        let timer = OpTimer::new(st.timeouts.connect_ms);
        let done = |sock: &Socket, r| TlsHandshake {
            sock: sock.clone(),
            step: Some(r),
            shaking: None,
            timer: OpTimer::new(0),
        };
        if let Err(e) = st.usable().and_then(|()| st.busy()) {
            return done(self, Err(TlsError::Socket(e)));
        }
        if let Some(session) = st.io.as_ref().and_then(|io| io.session()) {
            return done(self, Ok(session.clone()));
        }
        let Some(io) = st.io.take() else {
            return done(self, Err(TlsError::Socket(SockError::NotConnected)));
        };
        // The connection is there, but nobody can use it.
        st.dialing = true;
        st.connecting = true;
        let trace = st.trace.clone();
        if let Some(name) = &asked.name {
            trace.line(|| format!("lua ssl server name: \"{name}\""));
        }
        let shaking = async move {
            let failed = |e: String| TlsError::Failed(e);
            let handshake = asked.client.handshake(asked.name.as_deref(), asked.session).map_err(failed)?;
            let io = handshake.over(io).await.map_err(|e| TlsError::Failed(errors::text(&e)))?;
            if io.is_resumed() {
                trace.text("SSL reused session");
            }
            if asked.verify {
                asked.client.check(io.chain(), asked.name.as_deref()).map_err(TlsError::Refused)?;
            }
            Ok(io)
        };
        TlsHandshake { sock: self.clone(), step: None, shaking: Some(Box::pin(shaking)), timer }
    }
}

impl Future for TlsHandshake {
    type Output = Result<Arc<Session>, TlsError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let me = &mut *self;
        if let Some(r) = me.step.take() {
            return Poll::Ready(r);
        }
        let Some(shaking) = &mut me.shaking else {
            return Poll::Ready(Err(TlsError::Socket(SockError::NotConnected)));
        };
        let r = match shaking.as_mut().poll(cx) {
            Poll::Ready(r) => r,
            Poll::Pending if me.timer.poll(cx) => Err(TlsError::Socket(SockError::Timeout)),
            Poll::Pending => return Poll::Pending,
        };
        me.shaking = None;
        let mut st = me.sock.0.borrow_mut();
        st.connecting = false;
        st.dialing = false;
        Poll::Ready(match r {
            Ok(io) => {
                let session = io.session.clone();
                st.io = Some(Box::new(io));
                Ok(session)
            }
            Err(e) => {
                st.drop_connection();
                Err(e)
            }
        })
    }
}

impl Drop for TlsHandshake {
    fn drop(&mut self) {
        if self.shaking.take().is_some() {
            let mut st = self.sock.0.borrow_mut();
            st.connecting = false;
            st.drop_connection();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rw::Pattern;
    use super::super::tcp::Timeouts;
    use super::super::trace::Trace;
    use super::*;
    use crate::testing::run;
    use crate::tls::client::ClientSettings;
    use crate::tls::verify::Trust;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, SupportedProtocolVersion};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::TlsAcceptor;

    /// An issuer, and a server's certificate for `name` made by it.
    struct Made {
        issuer: CertificateDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        key: Vec<u8>,
    }

    fn made(name: &str) -> Made {
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(rcgen::DnType::CommonName, format!("issuer of {name}"));
        let issuer = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        Made { issuer: issuer.der().clone(), chain: vec![cert.der().clone()], key: key.serialize_der() }
    }

    fn acceptor(m: &Made, versions: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
        let key = PrivateKeyDer::try_from(m.key.clone()).unwrap();
        let builder = ServerConfig::builder_with_provider(crate::tls::provider().clone());
        let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
        Arc::new(builder.with_single_cert(m.chain.clone(), key).unwrap()).into()
    }

    fn socket(io: DuplexStream) -> Socket {
        Socket::over(
            Box::new(io),
            Timeouts { connect_ms: 20_000, ..Timeouts::default() },
            Trace::default(),
            false,
        )
    }

    fn client(trusts: &[CertificateDer<'static>]) -> Arc<Client> {
        let trust = Trust::new(trusts, &[], 1).unwrap();
        Arc::new(Client::new(ClientSettings { trust, ..ClientSettings::default() }))
    }

    fn asked(client: &Arc<Client>, name: &str, verify: bool) -> Asked {
        Asked { client: client.clone(), name: Some(name.to_owned()), session: None, verify }
    }

    /// One connection: the handshake's result, and whether the server saw a session again.
    async fn shake(a: &TlsAcceptor, asked: Asked) -> (Result<Arc<Session>, TlsError>, Socket, bool) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let s = socket(ours);
        let accepting = a.accept(theirs);
        let (r, peer) = tokio::join!(s.start_tls(asked), accepting);
        let mut resumed = false;
        if let Ok(mut peer) = peer {
            resumed = peer.get_ref().1.handshake_kind() == Some(rustls::HandshakeKind::Resumed);
            if r.is_ok() {
                let mut line = [0; 5];
                s.send(b"hello".to_vec()).await.unwrap();
                peer.read_exact(&mut line).await.unwrap();
                peer.write_all(b"bye\n").await.unwrap();
                peer.flush().await.unwrap();
                assert_eq!(s.receive(Pattern::Line).await.unwrap().unwrap(), b"bye");
            }
        }
        (r, s, resumed)
    }

    #[test]
    fn a_server_is_trusted_by_issuer_and_name() {
        run(async {
            let m = made("some.test");
            let a = acceptor(&m, rustls::ALL_VERSIONS);
            let knows = client(&[m.issuer.clone()]);
            assert!(shake(&a, asked(&knows, "some.test", true)).await.0.is_ok());
            assert!(shake(&a, asked(&knows, "other.test", false)).await.0.is_ok());
            let (r, s, _) = shake(&a, asked(&knows, "other.test", true)).await;
            assert!(matches!(r, Err(TlsError::Refused(Refused::Name))), "{r:?}");
            assert_eq!(s.send(vec![1]).await.unwrap_err().text(), "closed");
            let stranger = client(&[made("x.test").issuer]);
            for nobody in [stranger, client(&[])] {
                let (r, ..) = shake(&a, asked(&nobody, "some.test", true)).await;
                let Err(TlsError::Refused(Refused::Chain(wrong))) = r else { panic!("{r:?}") };
                assert_eq!(wrong, (20, "unable to get local issuer certificate"));
            }
            // Trusted as it is.
            let itself = client(&m.chain);
            assert!(shake(&a, asked(&itself, "some.test", true)).await.0.is_ok());
            let alone = Made { issuer: m.issuer.clone(), chain: vec![m.issuer.clone()], key: m.key.clone() };
            assert_eq!(
                Trust::new(&[], &[], 1).unwrap().check_chain(&alone.chain),
                Err((18, "self-signed certificate"))
            );
        });
    }

    #[test]
    fn sessions_are_gone_on_with() {
        run(async {
            let m = made("some.test");
            let c = client(&[m.issuer.clone()]);
            for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
                let a = acceptor(&m, &[version]);
                let (first, _, again) = shake(&a, asked(&c, "some.test", true)).await;
                assert!(!again);
                let session = Some(first.unwrap());
                let (second, _, again) =
                    shake(&a, Asked { session: session.clone(), ..asked(&c, "some.test", true) }).await;
                assert!(again, "{version:?}");
                assert!(Arc::ptr_eq(&second.unwrap(), session.as_ref().unwrap()));
                // Not for another name.
                let (_, _, again) = shake(&a, Asked { session, ..asked(&c, "other.test", false) }).await;
                assert!(!again);
            }
        });
    }

    #[test]
    fn a_peer_that_does_not_speak_tls_fails_the_handshake() {
        run(async {
            let c = client(&[]);
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            let s = socket(ours);
            let (r, _) = tokio::join!(
                s.start_tls(asked(&c, "some.test", false)),
                theirs.write_all(b"HTTP/1.1 400\r\n\r\n")
            );
            assert!(matches!(r, Err(TlsError::Failed(_))), "{r:?}");
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let s = socket(ours);
            drop(theirs);
            assert!(matches!(s.start_tls(asked(&c, "some.test", false)).await, Err(TlsError::Failed(_))));
            let (ours, _theirs) = tokio::io::duplex(1 << 16);
            let s = socket(ours);
            s.set_timeouts(Timeouts { connect_ms: 10, ..Timeouts::default() });
            let late = s.start_tls(asked(&c, "some.test", false)).await;
            assert!(matches!(late, Err(TlsError::Socket(SockError::Timeout))), "{late:?}");
            // Encrypted already: nothing happens.
            let m = made("some.test");
            let a = acceptor(&m, rustls::ALL_VERSIONS);
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let s = socket(ours);
            let (first, _peer) = tokio::join!(s.start_tls(asked(&c, "some.test", false)), a.accept(theirs));
            let again = s.start_tls(asked(&c, "some.test", true)).await.unwrap();
            assert!(Arc::ptr_eq(&first.unwrap(), &again));
        });
    }
}
