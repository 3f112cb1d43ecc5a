"""What tests share: emulators, a real control plane, builders and fakes."""
