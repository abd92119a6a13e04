//! Who works at the desk.

use switchboard::dispatch::{Actor, Role};

use super::setup::queue_id;

/// A supervisor who may do everything with every queue and brand.
pub fn supervisor() -> Actor {
    Actor {
        role: Role::Supervisor,
        agent: Some("sue".to_owned()),
        queues: Vec::new(),
        brands: Vec::new(),
        acting: None,
        acts: false,
    }
}

/// An agent of every queue and brand.
pub fn agent(name: &str) -> Actor {
    Actor {
        role: Role::Agent,
        agent: Some(name.to_owned()),
        queues: Vec::new(),
        brands: Vec::new(),
        acting: None,
        acts: false,
    }
}

/// An agent of these queues and brands only.
pub fn agent_of(name: &str, queues: &[&str], brands: &[&str]) -> Actor {
    Actor {
        queues: queues.iter().map(|queue| queue_id(queue)).collect(),
        brands: brands
            .iter()
            .map(|brand| brand.parse().expect("a brand id"))
            .collect(),
        ..agent(name)
    }
}
