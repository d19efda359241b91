//! Tutti.
