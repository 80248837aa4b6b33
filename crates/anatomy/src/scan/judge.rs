//! Judges what a pickle's trace imports and calls.
