"""What learns a subject: Perfusion, its ablations and the methods that people use today."""
