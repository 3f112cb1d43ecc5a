"""TokenRequest v1alpha1: its types, the rules between its fields, and the CRD that is generated from them."""
