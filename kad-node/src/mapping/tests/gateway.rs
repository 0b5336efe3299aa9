//! A router on loopback that speaks one of the three protocols: enough of each to be asked, in the words of its RFC.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use super::super::router::{Granted, Place};

const EXTERNAL: Ipv4Addr = Ipv4Addr::new(8, 8, 8, 8);
/// What PCP and NAT-PMP grant, in seconds: less than is asked for.
const LIFETIME: u32 = 3600;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Speaks {
    Pcp,
    NatPmp,
    Upnp,
}

type Mapped = Arc<Mutex<BTreeSet<u16>>>;

pub(super) struct Gateway {
    ip: Ipv4Addr,
    ssdp: SocketAddr,
    mapped: Mapped,
    /// Ended when it is dropped.
    _tasks: JoinSet<()>,
}

impl Gateway {
    pub(super) async fn start(speaks: Speaks) -> Self {
        /// The port of PCP is fixed, so each router has an address of its own; all of 127/8 is this machine.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [high, low] = (std::process::id() as u16).to_be_bytes();
        let ip = Ipv4Addr::new(127, 64 | high & 31, low, NEXT.fetch_add(1, Ordering::Relaxed));
        let mapped = Mapped::default();
        let mut tasks = JoinSet::new();
        let mut ssdp = SocketAddr::from((ip, 1900));
        match speaks {
            Speaks::Pcp | Speaks::NatPmp => {
                let socket = UdpSocket::bind((ip, 5351)).await.unwrap();
                let mapped = mapped.clone();
                tasks.spawn(async move {
                    let mut bytes = [0; 1100];
                    let mut nonces = BTreeMap::new();
                    loop {
                        let (length, from) = socket.recv_from(&mut bytes).await.unwrap();
                        let answer = match (bytes[0], speaks) {
                            (2, Speaks::Pcp) => pcp(&bytes[..length], &mapped, &mut nonces),
                            (0, Speaks::NatPmp) => nat_pmp(&bytes[..length], &mapped),
                            // RFC 6886, section 3.5: unsupported version.
                            _ => vec![0, 128, 0, 1, 0, 0, 0, 9],
                        };
                        socket.send_to(&answer, from).await.unwrap();
                    }
                });
            }
            Speaks::Upnp => {
                let web = TcpListener::bind((ip, 0)).await.unwrap();
                let location = format!("http://{}/root.xml", web.local_addr().unwrap());
                let search = UdpSocket::bind((ip, 0)).await.unwrap();
                ssdp = search.local_addr().unwrap();
                tasks.spawn(async move {
                    let mut bytes = [0; 1500];
                    loop {
                        let (_, from) = search.recv_from(&mut bytes).await.unwrap();
                        let answer = format!("HTTP/1.1 200 OK\r\nLOCATION: {location}\r\n\r\n");
                        search.send_to(answer.as_bytes(), from).await.unwrap();
                    }
                });
                let mapped = mapped.clone();
                tasks.spawn(async move {
                    loop {
                        let (stream, _) = web.accept().await.unwrap();
                        tokio::spawn(serve(stream, mapped.clone()));
                    }
                });
            }
        }
        Self {
            ip,
            ssdp,
            mapped,
            _tasks: tasks,
        }
    }

    pub(super) fn place(&self) -> Place {
        Place {
            gateway: self.ip,
            own: Ipv4Addr::LOCALHOST,
            ssdp: self.ssdp,
            trusted: vec![IpAddr::V4(self.ip)],
        }
    }

    /// The internal ports of the mappings that it has.
    pub(super) fn mapped(&self) -> Vec<u16> {
        self.mapped.lock().unwrap().iter().copied().collect()
    }

    pub(super) fn granted(&self, by: &'static str, secs: u64) -> Result<Granted, String> {
        Ok(Granted {
            external: SocketAddr::from((EXTERNAL, 4001)),
            lifetime: Duration::from_secs(secs),
            by,
        })
    }
}

fn note(mapped: &Mapped, port: u16, lives: bool) {
    let mut mapped = mapped.lock().unwrap();
    match lives {
        true => mapped.insert(port),
        false => mapped.remove(&port),
    };
}

/// RFC 6887, sections 7.2, 11.1 and 11.3: a mapping belongs to the nonce that it was made with.
fn pcp(request: &[u8], mapped: &Mapped, nonces: &mut BTreeMap<u16, Vec<u8>>) -> Vec<u8> {
    let lives = request[4..8] != [0; 4];
    let internal = u16::from_be_bytes([request[40], request[41]]);
    let nonce = request[24..36].to_vec();
    let is_its_own = nonces.entry(internal).or_insert_with(|| nonce.clone()) == &nonce;
    if is_its_own {
        note(mapped, internal, lives);
        if !lives {
            nonces.remove(&internal);
        }
    }
    const NOT_AUTHORIZED: u8 = 2;
    let mut answer = vec![2, 0x81, 0, if is_its_own { 0 } else { NOT_AUTHORIZED }];
    answer.extend(if lives { LIFETIME } else { 0 }.to_be_bytes());
    answer.extend(9_u32.to_be_bytes());
    answer.extend([0; 12]);
    // The nonce, the protocol and the internal port as they came; the external port that was suggested.
    answer.extend(&request[24..44]);
    answer.extend(EXTERNAL.to_ipv6_mapped().octets());
    answer
}

/// RFC 6886, sections 3.2 and 3.3.
fn nat_pmp(request: &[u8], mapped: &Mapped) -> Vec<u8> {
    let mut answer = vec![0, 128 | request[1], 0, 0];
    answer.extend(9_u32.to_be_bytes());
    if request[1] == 0 {
        answer.extend(EXTERNAL.octets());
        return answer;
    }
    let lives = request[8..12] != [0; 4];
    note(mapped, u16::from_be_bytes([request[4], request[5]]), lives);
    answer.extend(&request[4..6]);
    answer.extend(if lives { &request[6..8] } else { &[0, 0] });
    answer.extend(if lives { LIFETIME } else { 0 }.to_be_bytes());
    answer
}

/// One request of HTTP and its answer.
async fn serve(mut stream: TcpStream, mapped: Mapped) {
    let mut request = Vec::new();
    let body = loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        request.extend(&piece[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
                .map_or(0, |(_, length)| length.trim().parse().unwrap());
            if body.len() >= length {
                break text;
            }
        }
        if length == 0 {
            return;
        }
    };
    let answer = answer(&body, &mapped);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        answer.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(answer.as_bytes()).await.unwrap();
    let _ = stream.shutdown().await;
}

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

fn answer(request: &str, mapped: &Mapped) -> String {
    let path = request.split(' ').nth(1).unwrap();
    let element = |name: &str| {
        let (_, rest) = request.split_once(&format!("<{name}>"))?;
        rest.split_once('<').map(|(value, _)| value.to_owned())
    };
    let soap = |name: &str, inner: &str| {
        format!(
            "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
             <u:{name} xmlns:u=\"{SERVICE}\">{inner}</u:{name}></s:Body></s:Envelope>"
        )
    };
    match path {
        "/root.xml" => format!(
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device>\
             <deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>\
             <deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>\
             <deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>\
             <serviceType>{SERVICE}</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>\
             <controlURL>/control</controlURL><eventSubURL>/events</eventSubURL><SCPDURL>/actions.xml</SCPDURL>\
             </service></serviceList></device></deviceList></device></deviceList></device></root>"
        ),
        "/actions.xml" => {
            let action = |name: &str, arguments: &[&str]| {
                let arguments: String = (arguments.iter())
                    .map(|name| format!("<argument><name>{name}</name><direction>in</direction></argument>"))
                    .collect();
                format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
            };
            let key = ["NewRemoteHost", "NewExternalPort", "NewProtocol"];
            let rest = [
                "NewInternalPort",
                "NewInternalClient",
                "NewEnabled",
                "NewPortMappingDescription",
                "NewLeaseDuration",
            ];
            format!(
                "<?xml version=\"1.0\"?><scpd xmlns=\"urn:schemas-upnp-org:service-1-0\"><actionList>{}{}{}</actionList></scpd>",
                action("AddPortMapping", &[&key[..], &rest[..]].concat()),
                action("DeletePortMapping", &key),
                action("GetExternalIPAddress", &[]),
            )
        }
        _ if request.contains("AddPortMapping") => {
            note(mapped, element("NewInternalPort").unwrap().parse().unwrap(), true);
            soap("AddPortMappingResponse", "")
        }
        _ if request.contains("DeletePortMapping") => {
            note(
                mapped,
                element("NewExternalPort").unwrap().parse().unwrap(),
                false,
            );
            soap("DeletePortMappingResponse", "")
        }
        _ => soap(
            "GetExternalIPAddressResponse",
            &format!("<NewExternalIPAddress>{EXTERNAL}</NewExternalIPAddress>"),
        ),
    }
}
