//! A real Kafka broker in KRaft mode, from the jars that tests/peers/install.sh fetches.

use std::path::PathBuf;
use std::process::Command;

use super::server::{self, Plan, Server};

/// One broker, which is its own controller.
pub struct Kafka {
    pub port: u16,
    _server: Server,
}

impl Kafka {
    pub fn start() -> Kafka {
        let (server, port) = Server::start(plan);
        Kafka {
            port,
            _server: server,
        }
    }

    /// What a client is configured with.
    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
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

fn plan() -> (Plan, u16) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (port, controller) = (server::free_port(), server::free_port());
    let data = directory.path().join("data");
    let properties = directory.path().join("server.properties");
    let settings = format!(
        "process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
num.network.threads=2
num.io.threads=2
log.cleaner.dedupe.buffer.size=8388608
",
        data.display()
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
        .args([
            "format",
            "--standalone",
            "-t",
            "c3dpdGNoYm9hcmQtdGVzdA",
            "-c",
            &properties,
        ])
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
    command.push(properties);
    let plan = Plan {
        name: "Kafka",
        directory,
        log,
        command,
        ports: vec![port],
    };
    (plan, port)
}
