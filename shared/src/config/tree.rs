//! Reading, overriding and checking the tree.
