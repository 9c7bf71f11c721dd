"""Pictures of your own convolutions: every function draws data that the library's geometry and arithmetic give it."""
