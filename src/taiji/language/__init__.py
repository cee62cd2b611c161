"""Text generators and encoders, and the scaffold that keeps data from becoming structure."""
