//! A real Kafka broker in KRaft mode, from the jars that tests/peers/install.sh fetches.

use std::path::PathBuf;
use std::process::Command;

use super::server::{self, Plan, Server};

mod secured;

pub use secured::{Allowed, NEWCOMER, Papers, Secured, USER};

/// One broker, which is its own controller.
pub struct Kafka {
    pub port: u16,
    server: Server,
}

impl Kafka {
    pub fn start() -> Kafka {
        let (server, port) = Server::start(|| {
            let nodes = [Node::new(1)];
            let port = nodes[0].port;
            (plan(&nodes, 0, &Beside::default()), port)
        });
        Kafka { port, server }
    }

    /// What a client is configured with.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn signal(&self, name: &str) {
        let words = format!("kill -{name} {}", self.server.pid());
        let done = server::as_root("sh").args(["-c", &words]).status();
        assert!(done.is_ok_and(|status| status.success()), "{words}");
    }
}

/// Several brokers, each a controller, too.
pub struct KafkaCluster {
    nodes: Vec<Node>,
    servers: Vec<Server>,
}

impl KafkaCluster {
    pub fn start(count: u32) -> KafkaCluster {
        let nodes: Vec<Node> = (1..=count).map(Node::new).collect();
        // A broker is up only once most of them are.
        let servers = std::thread::scope(|scope| {
            let starting: Vec<_> = (0..nodes.len())
                .map(|at| {
                    let plan = plan(&nodes, at, &Beside::default());
                    scope.spawn(move || Server::start_one(plan))
                })
                .collect();
            let started = starting.into_iter().map(|one| one.join());
            started.map(|one| one.expect("a broker starts")).collect()
        });
        KafkaCluster { nodes, servers }
    }

    /// What a client is configured with.
    pub fn brokers(&self) -> String {
        let brokers = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port));
        brokers.collect::<Vec<_>>().join(",")
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Ends a broker as a power cut of its process would.
    pub fn kill_9(&mut self, at: usize) {
        self.servers[at].kill_9();
    }

    /// Starts one that was killed once more; it answers on return.
    pub fn start_again(&mut self, at: usize) {
        self.servers[at].start_again();
    }
}

impl Drop for KafkaCluster {
    /// An orderly end of one after the other waits minutes for those that ended before.
    fn drop(&mut self) {
        self.servers.iter_mut().for_each(Server::kill_9);
    }
}

/// A broker's name and ports.
struct Node {
    id: u32,
    port: u16,
    controller: u16,
}

impl Node {
    fn new(id: u32) -> Self {
        Self {
            id,
            port: server::free_port(),
            controller: server::free_port(),
        }
    }
}

/// Where the installer puts the jars.
fn jars() -> PathBuf {
    let home = std::env::var_os("HOME").expect("a home directory");
    let jars = PathBuf::from(home).join(".cache/switchboard-peers/kafka");
    assert!(
        jars.join("complete").exists(),
        "Kafka is not in {}: sh tests/peers/install.sh fetches it",
        jars.display()
    );
    jars
}

fn java(class: &str) -> Vec<String> {
    // Small and quick to start: a test's broker lives for seconds.
    let flags =
        "-Xms128m -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Djava.awt.headless=true";
    let mut command = vec!["java".to_owned()];
    command.extend(flags.split(' ').map(str::to_owned));
    command.extend(["-cp".to_owned(), format!("{}/*", jars().display())]);
    command.push(class.to_owned());
    command
}

/// What a broker has beside its plain listener.
#[derive(Default)]
struct Beside {
    /// Name, protocol and port.
    listeners: Vec<(&'static str, &'static str, u16)>,
    /// Files in its directory.
    files: Vec<(&'static str, String)>,
    /// Lines of its settings; `{dir}` stands for that directory.
    settings: String,
    /// Arguments of `format`, and of the virtual machine, where `{dir}` stands for it, too.
    format: Vec<String>,
    flags: Vec<String>,
}

fn plan(nodes: &[Node], at: usize, beside: &Beside) -> Plan {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let inside = |text: &str| text.replace("{dir}", &directory.path().display().to_string());
    for (name, content) in &beside.files {
        std::fs::write(directory.path().join(name), content).expect("a file of the broker's");
    }
    let joined = |each: &dyn Fn(&(&str, &str, u16)) -> String| -> String {
        beside.listeners.iter().map(each).collect()
    };
    let more = joined(&|(name, _, port)| format!(",{name}://127.0.0.1:{port}"));
    let protocols = joined(&|(name, protocol, _)| format!(",{name}:{protocol}"));
    let Node {
        id,
        port,
        controller,
    } = nodes[at];
    let voters: Vec<String> = nodes
        .iter()
        .map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller))
        .collect();
    let voters = voters.join(",");
    let copies = nodes.len();
    let in_sync_min = if copies > 1 { 2 } else { 1 };
    let data = directory.path().join("data");
    let properties = directory.path().join("server.properties");
    let settings = format!(
        "process.roles=broker,controller
node.id={id}
listeners=PLAINTEXT://127.0.0.1:{port}{more},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
controller.quorum.voters={voters}
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor={copies}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_sync_min}
min.insync.replicas={in_sync_min}
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=8388608
{}",
        data.display(),
        inside(&beside.settings)
    );
    std::fs::write(&properties, settings).expect("writing the broker's settings");
    let log = directory.path().join("kafka.log");
    let logging = directory.path().join("log4j2.properties");
    let settings = format!(
        "appender.file.type=File
appender.file.name=file
appender.file.fileName={}
appender.file.layout.type=PatternLayout
appender.file.layout.pattern=%d %p %c %m%n
rootLogger.level=warn
rootLogger.appenderRef.file.ref=file
",
        log.display()
    );
    std::fs::write(&logging, settings).expect("writing its logging");
    let properties = properties.display().to_string();
    let format = java("kafka.tools.StorageTool");
    let (program, flags) = format.split_first().expect("a command");
    let formatted = Command::new(program)
        .args(flags)
        .args(["format", "-t", "c3dpdGNoYm9hcmQtdGVzdA", "-c", &properties])
        .args(&beside.format)
        .output()
        .unwrap_or_else(|error| panic!("starting java: {error}; Kafka needs Java 17"));
    assert!(
        formatted.status.success(),
        "formatting Kafka's storage: {}{}",
        String::from_utf8_lossy(&formatted.stdout),
        String::from_utf8_lossy(&formatted.stderr)
    );
    let mut command = java("kafka.Kafka");
    let at = command
        .iter()
        .position(|word| word == "-cp")
        .expect("a class path");
    command.insert(
        at,
        format!("-Dlog4j2.configurationFile={}", logging.display()),
    );
    for flag in &beside.flags {
        command.insert(at, inside(flag));
    }
    command.push(properties);
    Plan {
        name: "Kafka",
        directory,
        log,
        command,
        ports: std::iter::once(port)
            .chain(beside.listeners.iter().map(|(.., port)| *port))
            .collect(),
    }
}
