"""What an agent asks for, and somebody who may allows for a while."""
