//! The cases of Autobahn's fuzzing server, which nobody here wrote, through the public door and over both wires.
//!
//! Whoever has the suite names its program in `MAINSTAY_AUTOBAHN` (`wstest`, which needs Python 2.7); without it the
//! tests say loudly that they were skipped. Its cases 12 and 13 are left out: they are about compression, which
//! neither wire speaks.
//!
//! Invariant: each case comes out as the table below says, which is OK wherever it names nothing else.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use mainstay::config::{ConfigBuilder, Overflow, Queue, WireBackend};
use mainstay::platform::JsonRpc;
use mainstay::supervisors::{ShutdownPlan, Strategy, SupervisorSpec};
use mainstay::{Config, Event, Session};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Names the program.
const VARIABLE: &str = "MAINSTAY_AUTOBAHN";
const LONG: Duration = Duration::from_secs(60);

/// What is neither OK nor wrong: the suite merely tells what is done where RFC 6455 leaves it open.
const INFORMATIONAL: &[&str] = &["7.1.6", "7.13.1", "7.13.2"];
/// A message and a fault behind it come in one packet. The message is delivered, but the connection has failed
/// before its consumer, who is a task of his own, can send it back; or it has not.
const EITHER: &[&str] = &[
    "3.2", "3.3", "3.4", "4.1.3", "4.1.4", "4.1.5", "4.2.3", "4.2.4", "4.2.5", "5.15",
];
/// Text that goes wrong within a fragment is refused when the fragment is whole, not at its first wrong byte.
const NON_STRICT: &[&str] = &["6.4.3", "6.4.4"];

/// Both wires before one server: two of them on one machine are in each other's way.
const WIRES: [(&str, WireBackend); 2] = [
    ("tungstenite", WireBackend::Tungstenite),
    ("fast", WireBackend::Fast),
];

#[tokio::test]
async fn every_case_comes_out_as_expected_over_both_wires() {
    let Ok(program) = std::env::var(VARIABLE) else {
        // Not `eprintln`, which a test that passes keeps to itself.
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED: no Autobahn fuzzing server; name its `wstest` in {VARIABLE}"
        );
        return;
    };
    let name = format!("mainstay-autobahn-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&directory).expect("a directory");
    let server = Server::start(&program, &directory).await;
    let count: usize = server.ask("getCaseCount").await.parse().expect("a count");
    for (agent, wire) in WIRES {
        for case in 1..=count {
            let path = format!("runCase?case={case}&agent={agent}");
            timeout(LONG, server.echo(&path, wire))
                .await
                .unwrap_or_else(|_| panic!("case {case} does not end over {agent}"));
        }
        let _ = server.ask(&format!("updateReports?agent={agent}")).await;
    }
    let report = std::fs::read(directory.join("index.json")).expect("a report");
    let report: Value = serde_json::from_slice(&report).expect("JSON");
    let mut surprises = Vec::new();
    for (agent, _) in WIRES {
        let cases = report[agent].as_object().expect("our cases");
        assert_eq!(cases.len(), count);
        surprises.extend(cases.iter().filter_map(|(case, came)| {
            let surprise = surprise(case, came)?;
            Some(format!("{case} over {agent}: {surprise}"))
        }));
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    // Left where it is if a case went wrong, with the story of each.
    let _ = std::fs::remove_dir_all(&directory);
}

/// What is not as the tables say about how a case came out.
fn surprise(case: &str, came: &Value) -> Option<String> {
    let expected: &[&str] = match case {
        case if INFORMATIONAL.contains(&case) => &["INFORMATIONAL"],
        case if NON_STRICT.contains(&case) => &["NON-STRICT"],
        case if EITHER.contains(&case) => &["OK", "NON-STRICT"],
        _ => &["OK"],
    };
    let said = |key: &str| came[key].as_str().unwrap_or_default();
    let well = expected.contains(&said("behavior"))
        && matches!(said("behaviorClose"), "OK" | "INFORMATIONAL");
    (!well).then(|| format!("{came}, expected {expected:?}"))
}

/// A running fuzzing server; it ends with this.
struct Server {
    address: SocketAddr,
    process: Child,
}

impl Server {
    async fn start(program: &str, directory: &Path) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let specification = directory.join("spec.json");
        let wanted = json!({
            "url": format!("ws://{address}"),
            "outdir": directory,
            "cases": ["*"],
            "exclude-cases": ["12.*", "13.*"],
            "exclude-agent-cases": {},
        });
        std::fs::write(&specification, wanted.to_string()).expect("written");
        let process = Command::new(program)
            .args(["-m", "fuzzingserver", "-w", "0", "-s"])
            .arg(&specification)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}"));
        let server = Self { address, process };
        let listening = async {
            while TcpStream::connect(address).await.is_err() {
                // A process of somebody else's has no event to await.
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(LONG, listening).await.expect("a server in time");
        server
    }

    fn config(&self, path: &str) -> ConfigBuilder {
        Config::builder(format!("ws://{}/{path}", self.address))
            .automatic_reconnect(false)
            .max_message(64 << 20)
            .queue(Queue::new(64, Overflow::Block(LONG)))
    }

    /// What the server says, in one message.
    async fn ask(&self, path: &str) -> String {
        let mut answer = String::new();
        self.run(self.config(path), async |session, frame| {
            let _ = session;
            answer = frame.as_text().unwrap_or_default().to_owned();
        })
        .await;
        answer
    }

    /// Sends every message back until the connection ends.
    async fn echo(&self, path: &str, wire: WireBackend) {
        self.run(self.config(path).wire(wire), async |session, frame| {
            // The server may have gone meanwhile, as some cases want.
            let _ = session.send(frame).await;
        })
        .await;
    }

    /// Reads from the first message on, which may come with the answer to the upgrade.
    async fn run(
        &self,
        config: ConfigBuilder,
        mut each: impl AsyncFnMut(&Session, mainstay::Frame),
    ) {
        let config = config.build().expect("a configuration");
        let (session, spec) = Session::supervised("case", JsonRpc, config);
        let mut messages = session.messages();
        let tree = SupervisorSpec::new(Strategy::OneForOne).child(spec);
        let root = tree.start().await.expect("a tree");
        while let Some(Event::Data(data)) = messages.next().await {
            each(&session, data.message).await;
        }
        root.shutdown(ShutdownPlan::default()).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
