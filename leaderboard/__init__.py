"""What people see: Streamlit pages over read-only queries. Never imports torch, a task or an agent."""
