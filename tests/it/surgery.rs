//! Surgery: what is merged, split or moved by mistake is put back exactly, whatever came meanwhile,
//! and replies keep going to whom they were written for.

mod model;
pub mod state;
