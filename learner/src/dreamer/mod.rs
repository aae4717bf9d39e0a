//! dreamer
