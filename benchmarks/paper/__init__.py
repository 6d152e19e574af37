"""The paper's figures on the shipped base model, beside the methods that people use today."""
