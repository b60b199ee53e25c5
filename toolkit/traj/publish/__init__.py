"""Publishing: a dataset to the Hugging Face Hub, and back."""
