//! What a server must not do for what is acknowledged to be durable.

use crate::store::sql::Conn;
use crate::store::{Result, StoreError};

use super::session::Session;

/// A setting of the server by which a crash loses what was committed. Somebody may take it by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// `fsync = off`
    Fsync,
    /// `full_page_writes = off`
    FullPageWrites,
    /// `synchronous_commit = off`, or `local` where there are standbys to be waited for.
    SynchronousCommit,
}

impl Risk {
    pub const ALL: [Self; 3] = [Self::Fsync, Self::FullPageWrites, Self::SynchronousCommit];

    /// The setting's name, by which it is taken.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fsync => "fsync",
            Self::FullPageWrites => "full_page_writes",
            Self::SynchronousCommit => "synchronous_commit",
        }
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|risk| risk.as_str() == name)
    }

    fn is_run(self, value: &str, standbys: &str) -> bool {
        match (self, value) {
            (_, "off") => true,
            (Self::SynchronousCommit, "local") => !standbys.is_empty(),
            _ => false,
        }
    }
}

/// Refuses a server that runs a risk which nobody took.
pub fn refuse_risks(session: &Session, taken: &[Risk]) -> Result<()> {
    let conn = Conn::Postgres(session);
    let value = |name: &str| -> Result<String> {
        let mut asked = conn.prepare("SELECT current_setting(?1)")?;
        Ok(asked.query_row([name], |row| row.get(0))?)
    };
    let standbys = value("synchronous_standby_names")?;
    for risk in Risk::ALL.into_iter().filter(|risk| !taken.contains(risk)) {
        let name = risk.as_str();
        let value = value(name)?;
        if risk.is_run(&value, &standbys) {
            return Err(StoreError::Unavailable(format!(
                "PostgreSQL runs with {name} = {value}: a crash would lose what was acknowledged. Set {name} = on, or \
                 take the risk by its name: store.accept_unsafe = [\"{name}\"]"
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Risk;

    #[test]
    fn a_risk_is_what_a_crash_loses_commits_by() {
        for (risk, value, standbys, run) in [
            (Risk::Fsync, "on", "", false),
            (Risk::Fsync, "off", "", true),
            (Risk::FullPageWrites, "off", "", true),
            (Risk::SynchronousCommit, "off", "", true),
            (Risk::SynchronousCommit, "local", "", false),
            (Risk::SynchronousCommit, "local", "FIRST 1 (other)", true),
            (
                Risk::SynchronousCommit,
                "remote_write",
                "FIRST 1 (other)",
                false,
            ),
            (
                Risk::SynchronousCommit,
                "remote_apply",
                "FIRST 1 (other)",
                false,
            ),
        ] {
            assert_eq!(
                risk.is_run(value, standbys),
                run,
                "{risk:?} {value} {standbys}"
            );
        }
        for risk in Risk::ALL {
            assert_eq!(Risk::parse(risk.as_str()), Some(risk));
        }
    }
}
